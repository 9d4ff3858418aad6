"""Whose store this is: the check that keeps one log's events, and one fold's rows, out of another's store. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runfold.store.port import REBUILD, Growth, PartitionsGrown, StoreIdentity, StoreRefused


def check_owner(store: StoreIdentity, owner: StoreIdentity, *, compatible: Sequence[int]) -> None:
    """Return where the log and fold of ``owner`` may write into ``store``; else raise StoreRefused with the remedy.

    ``compatible`` are the versions of the fold whose rows ``owner``'s may add to.
    """
    if store.cluster_id is None:
        return
    if (store.cluster_id, store.topic) != (owner.cluster_id, owner.topic):
        raise StoreRefused(
            f"this store belongs to the log {store.topic} ({store.cluster_id}), not to {owner.topic} ({owner.cluster_id}): "
            "name the right log in RUNFOLD_LOG, or another store in RUNFOLD_STORE"
        )
    known, found = store.partitions or 0, owner.partitions or 0
    if found < known:
        raise StoreRefused(
            f"this store knows {known} partitions, the log {owner.topic} has {found}: it is another log, or was made anew; "
            f"name the right one in RUNFOLD_LOG, or {REBUILD}"
        )
    if store.fold_version not in (owner.fold_version, *compatible):
        raise StoreRefused(
            f"this store was written by fold version {store.fold_version}, this is {owner.fold_version}: {REBUILD}"
        )
    if store.settings_hash != owner.settings_hash:
        raise StoreRefused(
            f"this store was written with other settings of the fold ({store.settings_hash}, now {owner.settings_hash}): "
            f"restore them, or {REBUILD}"
        )
    if found > known:
        raise PartitionsGrown(
            f"the log {owner.topic} has grown from {known} to {found} partitions: events of runs under way may now go to "
            "another partition than those before, and such a run is split in two. Accept that with `runfold store "
            f"accept-growth`; or copy the log to a new topic, which keeps runs whole, name it in RUNFOLD_LOG, and {REBUILD}"
        )


def check_growth(store: StoreIdentity, growth: Growth) -> None:
    """Raise StoreRefused where the store does not expect ``growth.before`` partitions, or would have to expect fewer."""
    if store.partitions != growth.before or growth.partitions <= growth.before:
        raise StoreRefused(
            f"this store expects {store.partitions} partitions, not {growth.before}: look again with `runfold status`"
        )
