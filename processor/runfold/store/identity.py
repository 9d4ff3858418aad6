"""Whose store this is: the check that keeps one log's events, and one fold's rows, out of another's store. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runfold.store.port import REBUILD, REBUILD_BESIDE, StoreIdentity, StoreRefused


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
    if store.partitions != owner.partitions:
        raise StoreRefused(
            f"this store was begun with {store.partitions} partitions, the log {owner.topic} has {owner.partitions}: "
            f"runs would be split over two partitions; {REBUILD}"
        )
    if store.fold_version not in (owner.fold_version, *compatible):
        raise StoreRefused(
            f"this store was written by fold version {store.fold_version}, this is {owner.fold_version}: {REBUILD_BESIDE}"
        )
    if store.settings_hash != owner.settings_hash:
        raise StoreRefused(
            f"this store was written with other settings of the fold ({store.settings_hash}, now {owner.settings_hash}): "
            f"restore them, or {REBUILD_BESIDE}"
        )
