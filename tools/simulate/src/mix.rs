//! How large calls are, and what they cost a node.

use rand::Rng;

/// People of a call and how many of 10,000 calls are of that size: assumed, in the shape that meeting services have described:
/// mostly two to six, a tail to a hundred, a few of a thousand.
pub const SIZES: [(usize, u32); 12] = [
    (2, 4_000),
    (3, 2_000),
    (4, 1_400),
    (5, 800),
    (6, 600),
    (8, 450),
    (10, 350),
    (15, 200),
    (25, 125),
    (50, 55),
    (100, 18),
    (1_000, 2),
];

/// Sizes up to a number of people.
pub fn sizes(largest: usize) -> impl Iterator<Item = (usize, u32)> {
    SIZES.into_iter().filter(move |(people, _)| *people <= largest)
}

pub fn draw(random: &mut impl Rng, largest: usize) -> usize {
    let total: u32 = sizes(largest).map(|(_, share)| share).sum();
    let mut left = random.random_range(0..total);
    for (people, share) in sizes(largest) {
        if left < share {
            return people;
        }
        left -= share;
    }
    SIZES[0].0
}

/// People of a call who publish audio and video; the others watch.
pub fn publishers(people: usize) -> usize {
    if people <= 100 { people.min(25) } else { 10 }
}

/// Packets per second that the node forwards to the receivers of a call. Each sees one other publisher large (1.7 Mbit/s in packets
/// of 1,200 bytes, 180/s) and up to eight small (a packet per frame, 30/s), and hears up to three (50/s).
pub fn cost_pps(people: usize) -> u64 {
    let seen = |others: usize| 180 * others.min(1) + 30 * others.saturating_sub(1).min(8) + 50 * others.min(3);
    let publishing = publishers(people);
    (publishing * seen(publishing - 1) + (people - publishing) * seen(publishing)) as u64
}

pub fn mean_cost_pps(largest: usize) -> f64 {
    mean(largest, |people| cost_pps(people) as f64)
}

pub fn mean_people(largest: usize) -> f64 {
    mean(largest, |people| people as f64)
}

fn mean(largest: usize, of: impl Fn(usize) -> f64) -> f64 {
    let total: u32 = sizes(largest).map(|(_, share)| share).sum();
    sizes(largest).map(|(people, share)| of(people) * f64::from(share)).sum::<f64>() / f64::from(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_what_people_receive() {
        assert_eq!(cost_pps(2), 2 * 230);
        assert_eq!(cost_pps(4), 4 * (180 + 60 + 150));
        assert_eq!(cost_pps(1_000), 1_000 * (180 + 240 + 150));
        assert_eq!(SIZES.iter().map(|(_, share)| share).sum::<u32>(), 10_000);
    }
}
