"""The accounts of this machine that components run as, and what has to belong to them.

Source: rules E7 and A6 of the device notes.
"""

import grp
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from monodon.errors import ConfigurationError
from monodon.nucleus.process import Account


def account(wanted: str) -> Account:
    """The account behind ``user[:group]``, either by name or number; the group is the user's primary by default.

    Raises:
        ConfigurationError: this machine does not know it.
    """
    user, _, group = wanted.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        gid = entry.pw_gid if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError(f"this device has no user or group {wanted!r}", hint="change posixUser") from None
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Account(name=entry.pw_name, home=entry.pw_dir, uid=entry.pw_uid, gid=gid, groups=groups)


def is_own(wanted: str) -> bool:
    """Whether ``user[:group]`` names the user that this process runs as."""
    uid = os.geteuid()
    return wanted.partition(":")[0] in (str(uid), *(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid))


def give(owner: Account, folders: Iterable[Path]) -> None:
    """Make folders and all that is in them belong to an account, file by file; links are not followed."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            if path.is_symlink() or path.exists():
                found = path.lstat()
                if (found.st_uid, found.st_gid) != (owner.uid, owner.gid):
                    os.lchown(path, owner.uid, owner.gid)
