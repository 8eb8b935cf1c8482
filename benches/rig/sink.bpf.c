// The sink of the measurement rig: sees everything that the server sends, counts RTP and drops it, so that no receiver's
// work is billed to the server. What it lets through goes to a second device, whose softirq runs on the load's core.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Audio is below, video above.
#define LARGE_BYTES 500

enum class { SMALL, LARGE, CLASSES };

struct count {
    // A segmented send counts as the packets it is cut into.
    __u64 packets;
    // UDP payload.
    __u64 bytes;
    // What was handed to the device: packets / skbs is the length of runs.
    __u64 skbs;
    // Of those, let through.
    __u64 passed_packets;
    __u64 passed_skbs;
};

struct config {
    // Let one RTP skb in so many through, by a hash; 0: none, 1: all.
    __u32 pass_every;
    // Device that takes what is let through.
    __u32 inner_ifindex;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CLASSES);
    __type(key, __u32);
    __type(value, struct count);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct config);
} config SEC(".maps");

// Headers of IPv4 without options, as the rig's are, and the beginning of RTP.
struct start {
    struct ethhdr ethernet;
    struct iphdr ip;
    struct udphdr udp;
    __u8 first;
    __u8 second;
    __be16 sequence;
    __be32 timestamp;
    __be32 ssrc;
} __attribute__((packed));

// RFC 7983 and RFC 5761: RTP or RTCP by the first byte, RTCP by the second.
static __always_inline int is_media(const struct start *start) {
    return start->ethernet.h_proto == bpf_htons(ETH_P_IP) && start->ip.ihl == 5 && start->ip.protocol == IPPROTO_UDP &&
           start->first >= 128 && start->first <= 191 && !(start->second >= 192 && start->second <= 223);
}

// Sequence numbers alone would not do: runs of a steady length begin at the same numbers again and again.
static __always_inline __u32 hash(const struct start *start) {
    __u32 h = bpf_ntohl(start->ssrc) * 0x9e3779b1u + bpf_ntohs(start->sequence);
    h ^= h >> 15;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    return h;
}

SEC("tc")
int sink(struct __sk_buff *skb) {
    __u32 zero = 0;
    struct config *set = bpf_map_lookup_elem(&config, &zero);
    if (!set)
        return TC_ACT_SHOT;
    struct start start;
    if (bpf_skb_load_bytes(skb, 0, &start, sizeof(start)) < 0 || !is_media(&start))
        return bpf_redirect(set->inner_ifindex, BPF_F_INGRESS);

    __u32 segments = skb->gso_segs > 1 ? skb->gso_segs : 1;
    __u32 bytes = skb->len - (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr));
    __u32 class = bytes / segments < LARGE_BYTES ? SMALL : LARGE;
    struct count *count = bpf_map_lookup_elem(&counts, &class);
    if (!count)
        return TC_ACT_SHOT;
    count->packets += segments;
    count->bytes += bytes;
    count->skbs += 1;
    if (!set->pass_every || hash(&start) % set->pass_every)
        return TC_ACT_SHOT;
    count->passed_packets += segments;
    count->passed_skbs += 1;
    return bpf_redirect(set->inner_ifindex, BPF_F_INGRESS);
}

char _license[] SEC("license") = "Dual MIT/GPL";
