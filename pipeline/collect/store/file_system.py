"""FileSystem: whether a folder lies on another machine's disk."""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "fuse.mount-s3", "fuse.blobfuse", "fuse.blobfuse2", "fuse.davfs", "fuse.moosefs", "fuse.smbnetfs",
})  # fmt: skip
"""Kinds of file systems, as Linux names them, that do not share memory between machines (https://sqlite.org/wal.html)."""


def network_kind(folder: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that holds a folder; None for a local one, and where nobody can tell.

    `mounts`: the text of /proc/self/mountinfo (see proc_pid_mountinfo(5)); read there when left out.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:  # not Linux
            return None
    place, best, kind = str(folder.resolve()), "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # a later mount hides an earlier one
            best, kind = point, kinds[0]
    return kind if kind in NETWORK else None


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
