# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What is known about sysctl keys before a kernel is asked: ranges, and where a missing key is no slip.

Ranges are those of the kernel's documentation (Documentation/admin-guide/sysctl and networking/ip-sysctl) and
of its own tables; where releases differ, the newest. A key that is not listed has no range here: the kernel
itself refuses what it can't take.
"""

from __future__ import annotations

from dataclasses import dataclass

INT = 2**31 - 1
LONG = 2**63 - 1


@dataclass(frozen=True)
class Rule:
    """What a key takes: `count` numbers from `low` to `high`, or one of `choices`."""

    low: int = 0
    high: int = INT
    count: int = 1
    choices: tuple[str, ...] = ()
    rising: bool = False
    """No number is less than the one before it."""
    rounds: bool = False
    """The kernel rounds up to what it can use, less than double."""


FLAG = Rule(high=1)
PERCENT = Rule(high=100)
LARGE = Rule(high=LONG)
BUFFERS = Rule(low=1, count=3, rising=True)
# Mainline's; one that this kernel was built without is a lack, and a name that is none of these is a slip.
# fmt: off
CONGESTION = Rule(
    choices=("bbr", "bic", "cdg", "cubic", "dctcp", "highspeed", "htcp", "hybla", "illinois", "lp", "nv",
             "reno", "scalable", "vegas", "veno", "westwood", "yeah"),
)
QDISC = Rule(
    choices=("bfifo", "cake", "codel", "fq", "fq_codel", "fq_pie", "noqueue", "pfifo", "pfifo_fast", "sfq"),
)
# fmt: on

KEYS: dict[str, Rule] = {
    "fs.aio-max-nr": LARGE,
    "fs.file-max": Rule(low=8192, high=LONG),
    "fs.inotify.max_user_instances": Rule(),
    "fs.inotify.max_user_watches": Rule(),
    "fs.nr_open": Rule(low=1024, high=INT - 63),
    "fs.pipe-max-size": Rule(low=4096, rounds=True),
    "kernel.hung_task_timeout_secs": LARGE,
    "kernel.io_uring_disabled": Rule(high=2),
    "kernel.nmi_watchdog": FLAG,
    "kernel.numa_balancing": Rule(high=3),
    "kernel.panic": Rule(low=-1),
    "kernel.pid_max": Rule(low=301, high=4194304),
    # from 5.13 these four are in debugfs
    "kernel.sched_latency_ns": Rule(low=100_000, high=1_000_000_000),
    "kernel.sched_migration_cost_ns": Rule(),
    "kernel.sched_min_granularity_ns": Rule(low=100_000, high=1_000_000_000),
    "kernel.sched_wakeup_granularity_ns": Rule(high=1_000_000_000),
    "kernel.sched_autogroup_enabled": FLAG,
    "kernel.sched_rt_period_us": Rule(low=1),
    "kernel.sched_rt_runtime_us": Rule(low=-1),
    "kernel.sched_schedstats": FLAG,
    "kernel.soft_watchdog": FLAG,
    "kernel.split_lock_mitigate": FLAG,
    "kernel.threads-max": Rule(low=20),
    "kernel.timer_migration": FLAG,
    "kernel.watchdog": FLAG,
    "kernel.watchdog_thresh": Rule(high=60),
    "net.core.busy_poll": Rule(),
    "net.core.busy_read": Rule(),
    "net.core.default_qdisc": QDISC,
    "net.core.netdev_budget": Rule(low=1),
    "net.core.netdev_budget_usecs": Rule(low=1),
    "net.core.netdev_max_backlog": Rule(),
    "net.core.optmem_max": Rule(),
    "net.core.rmem_default": Rule(low=2304),
    "net.core.rmem_max": Rule(low=2304),
    "net.core.rps_sock_flow_entries": Rule(high=2**29, rounds=True),
    "net.core.somaxconn": Rule(low=1),
    "net.core.wmem_default": Rule(low=4608),
    "net.core.wmem_max": Rule(low=4608),
    "net.ipv4.ip_forward": FLAG,
    "net.ipv4.ip_local_port_range": Rule(low=1, high=65535, count=2, rising=True),
    "net.ipv4.tcp_autocorking": FLAG,
    "net.ipv4.tcp_congestion_control": CONGESTION,
    "net.ipv4.tcp_fastopen": Rule(),
    "net.ipv4.tcp_fin_timeout": Rule(low=1),
    "net.ipv4.tcp_keepalive_intvl": Rule(low=1, high=32767),
    "net.ipv4.tcp_keepalive_probes": Rule(low=1, high=127),
    "net.ipv4.tcp_keepalive_time": Rule(low=1, high=32767),
    "net.ipv4.tcp_low_latency": Rule(),
    "net.ipv4.tcp_max_syn_backlog": Rule(),
    "net.ipv4.tcp_mtu_probing": Rule(high=2),
    "net.ipv4.tcp_no_metrics_save": FLAG,
    "net.ipv4.tcp_notsent_lowat": Rule(high=2**32 - 1),
    "net.ipv4.tcp_rmem": BUFFERS,
    "net.ipv4.tcp_sack": FLAG,
    "net.ipv4.tcp_slow_start_after_idle": FLAG,
    "net.ipv4.tcp_syncookies": Rule(high=2),
    "net.ipv4.tcp_timestamps": Rule(high=2),
    "net.ipv4.tcp_tw_reuse": Rule(high=2),
    "net.ipv4.tcp_window_scaling": FLAG,
    "net.ipv4.tcp_wmem": BUFFERS,
    "net.netfilter.nf_conntrack_buckets": Rule(low=1024, rounds=True),
    "net.netfilter.nf_conntrack_max": Rule(low=1024),
    "net.netfilter.nf_conntrack_tcp_loose": FLAG,
    "net.netfilter.nf_conntrack_tcp_timeout_established": Rule(low=1),
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": Rule(low=1),
    "vm.compaction_proactiveness": PERCENT,
    # two pages is the least that the kernel takes
    "vm.dirty_background_bytes": Rule(low=1, high=LONG),
    "vm.dirty_background_ratio": PERCENT,
    "vm.dirty_bytes": Rule(low=8192, high=LONG),
    "vm.dirty_expire_centisecs": Rule(),
    "vm.dirty_ratio": PERCENT,
    "vm.dirty_writeback_centisecs": Rule(),
    "vm.max_map_count": Rule(low=1024),
    "vm.min_free_kbytes": Rule(low=128),
    "vm.nr_hugepages": LARGE,
    "vm.nr_overcommit_hugepages": LARGE,
    "vm.overcommit_memory": Rule(high=2),
    "vm.overcommit_ratio": Rule(),
    "vm.page-cluster": Rule(high=31),
    "vm.panic_on_oom": Rule(high=2),
    "vm.stat_interval": Rule(low=1),
    "vm.swappiness": Rule(high=200),
    "vm.vfs_cache_pressure": Rule(),
    "vm.watermark_boost_factor": Rule(),
    "vm.watermark_scale_factor": Rule(low=1, high=3000),
    "vm.zone_reclaim_mode": Rule(high=7),
}

ONE_OF = (
    ("vm.dirty_ratio", "vm.dirty_bytes"),
    ("vm.dirty_background_ratio", "vm.dirty_background_bytes"),
    ("vm.overcommit_ratio", "vm.overcommit_kbytes"),
)
"""The kernel keeps one of the two: setting either clears the other."""

WATCHDOGS = ("kernel.watchdog", "kernel.nmi_watchdog", "kernel.soft_watchdog")
HUGE_PAGES = ("vm.nr_hugepages", "vm.nr_hugepages_mempolicy")


def touched(key: str) -> tuple[str, ...]:
    """Return the keys whose value may change when `key` is set; `key` is among them."""
    return next((group for group in (*ONE_OF, WATCHDOGS, HUGE_PAGES) if key in group), (key,))


MODULE_TREES = (
    "net.netfilter",
    "net.bridge",
    "net.ipv6",
    "net.mptcp",
    "net.sctp",
    "sunrpc",
    "dev.raid",
    "fs.nfs",
)
"""Trees that come with a kernel module, perhaps later: udev applies them then."""
