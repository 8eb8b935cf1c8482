"""CPU time of a server and of the softirqs it causes.

Three parts, all in nanoseconds:
- run time of every thread of the process and its children. A send's softirq runs inside the sender's system call, so it is
  in here, as are interrupts that come while the thread runs;
- run time of ksoftirqd on the server's cores;
- the rest of those cores' time that is neither idle nor stolen nor any task's: softirqs that came while the core was idle.
The last part needs to know the run time of all tasks on a core; where the kernel does not tell (neither the cpuacct
controller nor /proc/schedstat), it is None and the report says so.
"""

import os
import pathlib
import time

CPUACCT = pathlib.Path("/sys/fs/cgroup/cpuacct/cpuacct.usage_percpu")
SCHEDSTAT = pathlib.Path("/proc/schedstat")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Snapshot:
    """Where things stand at one moment."""

    def __init__(self, pid, cores):
        self.at_ns = time.monotonic_ns()
        self.threads = {}
        for process in family(pid):
            self.threads.update(threads(process))
        self.ksoftirqd = {f"ksoftirqd/{core}": thread_ns(ksoftirqd(core)) for core in cores}
        self.tasks_ns = tasks_ns(cores)
        self.idle_ns = idle_ns(cores)
        self.cores = len(cores)


class Use:
    """What was used between two snapshots, in nanoseconds."""

    def __init__(self, before, after):
        self.wall_ns = after.at_ns - before.at_ns
        self.by_thread, self.sleeps = {}, {}
        for id, (name, ns, sleeps) in after.threads.items():
            _, ns_before, sleeps_before = before.threads.get(id, (name, 0, 0))
            self.by_thread[name] = self.by_thread.get(name, 0) + ns - ns_before
            self.sleeps[name] = self.sleeps.get(name, 0) + sleeps - sleeps_before
        self.threads_ns = sum(self.by_thread.values())
        self.ksoftirqd_ns = sum(after.ksoftirqd[name] - before.ksoftirqd[name] for name in after.ksoftirqd)
        self.interrupts_ns = None
        if after.tasks_ns is not None:
            known = after.tasks_ns - before.tasks_ns + after.idle_ns - before.idle_ns
            # Idle time comes in hundredths of a second: what is less than that is nothing.
            self.interrupts_ns = max(0, self.wall_ns * after.cores - known)
        self.total_ns = self.threads_ns + self.ksoftirqd_ns + (self.interrupts_ns or 0)


def family(pid):
    """A process and its descendants."""
    found, new = [], [pid]
    while new:
        process = new.pop()
        found.append(process)
        for children in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
            new += [int(child) for child in read(children).split()]
    return found


def threads(pid):
    """Of each thread its name, run time and how often it went to sleep."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        schedstat, status = read(task / "schedstat"), read(task / "status")
        if schedstat and status:
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            found[int(task.name)] = (fields["Name"], int(schedstat.split()[0]), int(fields["voluntary_ctxt_switches"]))
    return found


def ksoftirqd(core):
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        if read(process / "comm").strip() == f"ksoftirqd/{core}":
            return int(process.name)
    raise RuntimeError(f"there is no ksoftirqd for core {core}")


def thread_ns(pid):
    return int(read(pathlib.Path(f"/proc/{pid}/schedstat")).split()[0])


def tasks_ns(cores):
    """Run time of all tasks on these cores."""
    if CPUACCT.exists():
        per_core = [int(word) for word in CPUACCT.read_text().split()]
        return sum(per_core[core] for core in cores)
    if SCHEDSTAT.exists():
        # Seventh number of a core's line, in nanoseconds.
        lines = {line.split()[0]: line.split() for line in SCHEDSTAT.read_text().splitlines() if line.startswith("cpu")}
        return sum(int(lines[f"cpu{core}"][7]) for core in cores)
    return None


def idle_ns(cores):
    """Time in which these cores had nothing to do or were taken away by the hypervisor."""
    total = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{core}" for core in cores}:
            idle, iowait, steal = int(ticks[3]), int(ticks[4]), int(ticks[7])
            total += (idle + iowait + steal) * TICK_NS
    return total


def read(path):
    """Contents, or nothing if the process has gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
