"""Every bound of the replication engine in one place, with the relations between them asserted at import.

Sizes are bytes, times are seconds. A limit that a node's configuration may change is a field of
`mirror_agent.mirror.config.MirrorLimits`; its default is here.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# One FUSE request carries at most this much data (256 pages of 4 KiB, the kernel's ceiling for ordinary mounts).
MAX_WRITE_BYTES: Final = MIB
# The kernel asks for room for its headers before the data of a request.
FUSE_BUFFER_BYTES: Final = MAX_WRITE_BYTES + 4 * KIB

# A frame is a write plus its header; an ENSURE carries the extended attributes of one inode (ext4: at most one block
# plus 64 KiB values), a directory entry at most 255 bytes of name.
MAX_FRAME_BYTES: Final = MAX_WRITE_BYTES + 64 * KIB
MAX_NAME_BYTES: Final = 255
MAX_SYMLINK_BYTES: Final = 4095
MAX_XATTR_VALUE_BYTES: Final = 64 * KIB
MAX_XATTRS_TOTAL_BYTES: Final = 512 * KIB
MAX_TEXT_BYTES: Final = 2 * KIB
MAX_ROOTS: Final = 4

# Unacknowledged bytes of the stream; when it is full, mutating calls wait. Memory of the primary is bounded by
# ring + threads x 1 MiB, of the replica by one receive buffer.
RING_BYTES: Final = 64 * MIB
RECEIVE_BUFFER_BYTES: Final = 4 * MIB

# FUSE threads per mounted path. One that waits for the replica is replaced by another, up to this number.
FRONT_THREADS_MAX: Final = 24
# Requests held back while calls are parked; beyond it the threads themselves wait.
PARKED_REQUESTS_MAX: Final = 4096
# Descriptors kept for inodes; all others are reached through file handles.
OPEN_INODES_MAX: Final = 2048
REPLICA_FSYNC_THREADS: Final = 8

HEARTBEAT_S: Final = 0.5
# Silence on the stream after which the link counts as lost: six heartbeats.
PEER_SILENCE_S: Final = 3.0
# A replica that says that its disk stands still, while a call waits, is taken out after this: the longest pause that
# the loss of the peer itself may cost by default (promise and witness deadline; a node derives it from its timing).
STALL_S: Final = 6.0
# It is told by pulses, one a heartbeat.
STALL_S_MIN: Final = 2 * HEARTBEAT_S
# A replica that is heard but applies nothing for so long, where it cannot be told whether its disk moves.
APPLY_STALL_S: Final = 30.0
# A replica is slow while at least half of the calls of so long waited for it longer than this; few calls tell nothing.
SLOW_CALL_S: Final = 1.0
SLOW_FOR_S: Final = 10.0
SLOW_CALLS_MIN: Final = 3
# A replica that was taken out for standing still or slowness is left out so long, doubled for each time it was within
# the time remembered: longer than a hiccup of a disk at first, at most what a person may take to look at an alert.
LEAVE_OUT_S: Final = 10.0
LEAVE_OUT_MAX_S: Final = 300.0
LEAVE_OUT_REMEMBERED_S: Final = 1800.0
CONNECT_TIMEOUT_S: Final = 2.0
HANDSHAKE_TIMEOUT_S: Final = 5.0
RECONNECT_S: Final = 0.2
# A resync that the replica refused is tried again, each time later, up to this.
RECONNECT_MAX_S: Final = 10.0
STATUS_S: Final = 0.2
# An engine that tells no status for so long hangs, and is killed. Longer than the pauses a machine may make (a promise
# lasts 4 s), short enough that hanging, replacing and the load balancer's probe stay within 12 s together.
SILENCE_S: Final = 5.0
# A barrier (syncfs on both nodes) may take as long as a disk full of dirty pages takes to write.
BARRIER_TIMEOUT_S: Final = 120.0
# Wall time of abort(): the application must not hang longer than this on a node that lost.
ABORT_S: Final = 1.0
# An engine that died as primary is replaced within this time, or the mounts are aborted. An engine that dies so often
# within this time is not replaced again: what kills it may be sent to it again.
REPLACEMENT_S: Final = 15.0
REPLACEMENTS_MAX: Final = 3
REPLACEMENTS_WITHIN_S: Final = 60
# File times that only changed as a side effect travel this late (explicit utimens travels at once).
TIMES_FLUSH_S: Final = 1.0

# Resync: comparison unit, blocks per comparison frame, bytes compared but not yet answered.
BLOCK_BYTES: Final = 64 * KIB
BLOCKS_PER_SUM: Final = 256
RESYNC_WINDOW_BYTES: Final = 64 * MIB
DIGEST_BYTES: Final = 16
# Names of a directory that are sent before its lock is given back: about 25 ms of work.
NAMES_PER_TURN: Final = 256
# Content a resync may look at per second; 0 = as fast as the application leaves room for.
RESYNC_MAX_BYTES_S: Final = 0
# A checkpoint flushes both disks: rare enough not to be felt, and what it saves is one scan's worth of candidates.
CHECKPOINT_S: Final = 30.0

# What all quarantine folders of a node may hold together, and how long.
QUARANTINE_MAX_BYTES: Final = 8 * 1024 * MIB
QUARANTINE_MAX_AGE_S: Final = 30 * 24 * 3600.0

# Verify: what it reads of each copy in a second, unless it is asked for another rate.
VERIFY_RATE_BYTES_PER_S: Final = 100 * MIB

assert MAX_FRAME_BYTES > MAX_WRITE_BYTES
assert RING_BYTES >= 4 * MAX_FRAME_BYTES, "a ring smaller than a few frames would serialise every large write"
assert RECEIVE_BUFFER_BYTES >= 2 * MAX_FRAME_BYTES, "a whole frame must fit beside the start of the next one"
assert PEER_SILENCE_S >= 4 * HEARTBEAT_S, "one late heartbeat must not look like a dead peer"
assert SILENCE_S >= 10 * STATUS_S, "a few late lines must not look like an engine that hangs"
assert STALL_S > PEER_SILENCE_S, "a replica that is not heard at all is known sooner"
assert STALL_S < APPLY_STALL_S < BARRIER_TIMEOUT_S
assert LEAVE_OUT_REMEMBERED_S > 2 * LEAVE_OUT_MAX_S, "or the longest wait would be forgotten while it lasts"
assert MAX_WRITE_BYTES % BLOCK_BYTES == 0
assert BLOCKS_PER_SUM * DIGEST_BYTES < MAX_FRAME_BYTES
assert MAX_XATTRS_TOTAL_BYTES < MAX_FRAME_BYTES
