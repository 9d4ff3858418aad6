"""What every store can do. Its one transaction is the only commit there is.

:meth:`Store.apply` writes runs, usage, dead letters, journal, tallies and the next position of every partition together,
or raises :class:`StalePosition` and writes nothing. Whoever does not own a partition writes through
:meth:`Store.write_through_door` alone: it raises the partition's epoch, so that the owner meets ``StalePosition``, drops its
cache and reads again. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from runfold.fold.changes import Changes, Letter
from runfold.store.snapshot import StoreSnapshot
from runfold.store.usage_query import UsageQuery, UsageRow, UsageSum

REBUILD = "build a new store from the log: name a new file in RUNFOLD_STORE and start `runfold serve`"
"""The remedy where a store cannot be gone on with: the log has everything."""
REBUILD_BESIDE = "build it anew beside the one that serves: `runfold replay rebuild --switch`"
"""The remedy where a store can be read, and is to be replaced."""


class StoreError(Exception):
    """Something about the store that a person has to act on; the message names the setting and the remedy."""


class StoreUnreachable(StoreError):
    """The store does not answer, cannot be written or is full (exit code 3)."""


class StoreRefused(StoreError):
    """The store is of another schema, another log or another fold: writing would spoil it (exit code 2)."""


class StoreBusy(StoreError):
    """Another process serves this store (exit code 2); the message names its pid."""


class PartitionsGrown(StoreRefused):
    """The log has more partitions than the store was told to expect: somebody has to accept that once (exit code 2)."""


class StalePosition(StoreError):
    """Somebody else moved a partition's position or epoch: nothing was written; drop caches and read again."""


class ClaimHistory(Struct, frozen=True, kw_only=True):
    """What the claims of a partition tell about those who held it; see :mod:`runfold.store.claims`.

    ``takeovers`` counts claims from an owner that had not let go. ``stalled`` are those in a row at the same position
    ``claimed_at``. ``trial`` is the offset of a record that is in hand alone. ``suspect`` is that of one whose process ended
    then, ``deaths`` how often.
    """

    takeovers: int = 0
    stalled: int = 0
    claimed_at: int | None = None
    trial: int | None = None
    suspect: int | None = None
    deaths: int = 0


class Lease(Struct, frozen=True, kw_only=True):
    """A partition that this owner may fold: its position, and the epoch that every write has to name.

    ``first_offset`` is the first offset the store ever had of the partition. ``last_offset`` and ``last_hash`` name the
    last record folded, which the log is asked for again: a log that answers otherwise is another log. ``taken_from`` is the
    owner that had not let go of it, if it was taken over.
    """

    partition: int
    position: int
    epoch: int
    first_offset: int
    last_offset: int | None = None
    last_hash: bytes | None = None
    taken_from: str | None = None
    history: ClaimHistory = ClaimHistory()


class PartitionStatus(Struct, frozen=True, kw_only=True):
    """What the store knows of one partition. ``tally`` counts records by outcome since the store began.

    ``without_usage`` is a share of the runs that ended without telling their usage: the sum over all partitions counts.
    """

    partition: int
    position: int
    epoch: int
    owner: str | None
    lease_until: int
    first_offset: int
    tally: dict[str, int]
    committed_at: int | None = None
    without_usage: int = 0
    history: ClaimHistory = ClaimHistory()


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker that serves the store, with partitions or without: since when, when it last said so, until when that holds."""

    owner: str
    since: int
    seen_at: int
    alive_until: int


class Seat(Struct, frozen=True, kw_only=True):
    """Who holds a partition by a lease that runs (None: nobody), and the partition's position."""

    owner: str | None
    position: int


class Crew(Struct, frozen=True, kw_only=True):
    """Who shares the partitions, by the store's clock: ``alive`` are the workers, ``seats`` the partitions that are known."""

    alive: frozenset[str]
    seats: dict[int, Seat]


class LostRange(Struct, frozen=True, kw_only=True):
    """Offsets ``begin`` up to but not including ``end`` that the log no longer had when they were to be folded.

    ``accepted_at`` is when somebody decided to go on behind them; None while nobody has.
    """

    partition: int
    begin: int
    end: int
    noticed_at: int
    accepted_at: int | None = None


class Growth(Struct, frozen=True, kw_only=True):
    """That the log has grown from ``before`` to ``partitions``, accepted while ``open_runs`` might be split by it."""

    before: int
    partitions: int
    open_runs: int
    accepted_at: int


class StoredRun(Struct, frozen=True, kw_only=True):
    """A run's row: ``body`` is the encoded RunState, ``handle`` the store's own number for the row (never in a digest)."""

    partition: int
    run_id: str
    handle: int
    body: bytes


class RunFilter(Struct, frozen=True, kw_only=True):
    """Which runs to list, and in which order; None means any.

    Newest first by (created_at, run_id), or with ``ascending`` oldest first. ``after`` continues behind such a place in
    that order, ``before`` stops in front of one. ``project_id`` confines: rows of other projects do not exist for it, so
    that of a split run the part that is the project's own speaks.
    """

    status: int | None = None
    open: bool | None = None
    thread_id: str | None = None
    model: str | None = None
    assistant_id: str | None = None
    project_id: str | None = None
    incomplete: bool | None = None
    missing: bool | None = None
    flagged: bool | None = None
    after: tuple[int, str] | None = None
    before: tuple[int, str] | None = None
    ascending: bool = False
    limit: int = 20


class RunPage(Struct, frozen=True, kw_only=True):
    """A part of a list. ``next`` is the place to go on behind, None where the list has ended."""

    rows: list[StoredRun]
    next: tuple[int, str] | None


class Note(Struct, frozen=True, kw_only=True):
    """What a person decided about a record, keyed by its place in the log: ``kind`` is discard or set_aside."""

    partition: int
    offset: int
    kind: str
    reason: str
    noted_at: int


class ApiKey(Struct, frozen=True, kw_only=True):
    """Who may ask over HTTP: a secret's SHA-256, never the secret. ``scopes`` are of :data:`runfold.api.auth.SCOPES`.

    ``project_id`` confines the key to one project; ``revoked_at`` (Unix milliseconds) ends it.
    """

    key_id: str
    hash: bytes
    name: str
    scopes: tuple[str, ...]
    project_id: str | None
    created_at: int
    revoked_at: int | None = None


class StoreIdentity(Struct, frozen=True, kw_only=True):
    """What a store says of itself: which log it belongs to and which fold wrote it. None until first served."""

    schema_version: int
    cluster_id: str | None
    topic: str | None
    partitions: int | None
    fold_version: int | None
    settings_hash: str | None


class Store(Protocol):
    """Reading and writing. Every method is safe to cancel; reads see one committed state."""

    def serve_lock(self) -> AbstractContextManager[None]:
        """To be held by whoever serves the store, where only one process may. Raises StoreBusy while another holds it.

        Taken before :meth:`open`, which then ends the leases that a killed holder left behind. Readers do not need it, nor
        do those who write through the door.
        """

    async def open(self, *, write: bool = True) -> None:
        """Open, creating and migrating forward when ``write``. Raises StoreRefused for a newer schema."""

    async def close(self) -> None: ...

    async def identity(self) -> StoreIdentity: ...

    async def bind(
        self,
        *,
        cluster_id: str,
        topic: str,
        partitions: int,
        fold_version: int,
        compatible: Sequence[int],
        settings_hash: str,
    ) -> None:
        """Tie a fresh store to its log and fold, or check that it belongs to them. Raises StoreRefused otherwise."""

    async def claim(self, owner: str, partitions: Mapping[int, int], *, lease: float) -> dict[int, Lease]:
        """Take those partitions that are free, expired or already ``owner``'s: epoch + 1, held ``lease`` seconds.

        ``partitions`` maps each partition to the log's begin: the position where the store has none yet.
        """

    async def renew(self, owner: str, leases: Mapping[int, Lease], *, lease: float) -> set[int]:
        """Prolong, and say that ``owner`` is alive, were it without a partition; returns those still owned at their epoch."""

    async def crew(self) -> Crew:
        """Who is alive, and who holds what: cheap enough to be asked several times a second."""

    async def workers(self) -> list[WorkerStatus]:
        """Those who are alive, and those who fell silent while they owned partitions."""

    async def release(self, owner: str, leases: Mapping[int, Lease]) -> None:
        """Let go at once, so that the next owner need not wait."""

    async def leave(self, owner: str) -> None:
        """Let go of everything that ``owner`` has, at whatever epoch, and take it off the list of workers."""

    async def bury(self, owners: Sequence[str]) -> None:
        """End the leases of workers that are known to be dead: the next claim of their partitions is a takeover."""

    async def begin_trial(self, lease: Lease, offset: int) -> None:
        """Mark that this record is taken in hand alone, before it is: if its process dies, the next claim tells so.

        Raises StalePosition where the partition is not held at the lease's epoch.
        """

    async def accept_growth(self, growth: Growth) -> None:
        """Expect ``growth.partitions`` from now on, where ``growth.before`` were. Raises StoreRefused where they were not."""

    async def growths(self) -> list[Growth]: ...

    async def note_loss(self, lost: LostRange) -> None:
        """Remember a lost range that nobody has accepted yet; one that begins at the same offset becomes as long as this."""

    async def accept_loss(self, lost: LostRange) -> None:
        """Go on behind a lost range: epoch + 1, position from its begin to its end, and that it was accepted, all at once.

        Raises StalePosition where the partition does not stand at the range's begin.
        """

    async def lost_ranges(self) -> list[LostRange]:
        """By partition and offset, accepted or not."""

    async def load(self, partition: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The rows of those runs that the store has, as last committed.

        An apply that is under way is not waited for and not seen: keep the runs that it writes in hand until it returns.
        """

    async def load_each(self, wanted: Mapping[int, Sequence[str]]) -> list[StoredRun]:
        """As :meth:`load`, of several partitions by one question: run ids by partition. In no order."""

    async def apply(self, changes: Changes, leases: Mapping[int, Lease]) -> dict[tuple[int, str], int]:
        """The one transaction. The position compare stands first, partitions in order; usage stands last.

        Every row is of a partition that ``changes.positions`` moves. Returns the handles of new rows. Raises
        StalePosition (nothing written) or StoreUnreachable (fate unknown: take the partitions again and read the positions).
        """

    async def write_through_door(self, change: DoorChange) -> None:
        """A write by somebody who owns nothing: epoch + 1 and write, in one transaction.

        Positions and tallies in it are not written: the refolded records were counted when they were folded first. The
        row keeps its handle. Raises StalePosition when the run's row or letters are no longer those of ``change.before``.
        """

    async def add_note(self, note: Note) -> None: ...

    async def remove_note(self, note: Note) -> None:
        """Take a decision back: the note of this place and kind."""

    async def notes(self) -> list[Note]: ...

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new API key. Keys are not in the digest: they are no matter of the log."""

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; False where there is none of that id. One that had ended stays as it was."""

    async def keys(self) -> list[ApiKey]:
        """All API keys, those that have ended too, in the order in which they were made."""

    async def partitions(self) -> list[PartitionStatus]: ...

    async def find_run(self, run_id: str, *, project_id: str | None = None) -> list[StoredRun]:
        """The run's rows, by partition: more than one where producers split it. Only those of the project, if given."""

    async def list_runs(self, wanted: RunFilter) -> list[StoredRun]:
        """In the filter's order; a split run once, by the row that :mod:`runfold.store.split` chooses."""

    async def browse_runs(self, wanted: RunFilter, *, seconds: float) -> RunPage:
        """As :meth:`list_runs`, but looking for about ``seconds`` at most: a page may come short, or empty, and go on.

        For what no index finds: runs of a model, an assistant or a project may lie as far back as they like.
        """

    async def count_runs(self) -> dict[str, int]:
        """Rows by status (wire names), and ``without_created``, ``missing``, ``flagged``, ``split`` (see Flag).

        ``incomplete`` is the status of that name, not the runs whose ``created`` has not come.
        """

    async def count_flagged(self) -> dict[str, int]:
        """``without_created``, ``missing`` and ``flagged`` of :meth:`count_runs`: what can be told at any time, at no cost."""

    async def usage(self, *, begin: int | None = None, end: int | None = None) -> list[UsageRow]:
        """Usage by minute bucket, ordered by bucket, for Unix minutes begin <= minute < end; buckets of zeros left out."""

    async def sum_usage(self, wanted: UsageQuery) -> list[UsageSum]:
        """Usage summed by the store itself, ordered by part and group; sums of zeros left out."""

    async def letters(
        self,
        *,
        run_id: str | None = None,
        place: tuple[int, int] | None = None,
        limit: int = 100,
        after: tuple[int, int] | None = None,
    ) -> list[Letter]:
        """Dead letters ordered by partition and offset; discarded ones too (see :meth:`notes`)."""

    async def count_letters(self) -> dict[str, int]:
        """Dead letters by reason."""

    async def snapshot(self) -> StoreSnapshot:
        """One consistent reading view, for digest and dump, beside a living writer. Close it."""


class DoorChange(Struct, frozen=True, kw_only=True):
    """A refold of one run: the row, letters and journal before and after, and what that does to usage.

    ``before`` is the row's body as it was read, ``before_letters`` the offsets of the run's letters as they were read.
    """

    partition: int
    run_id: str
    before: bytes | None
    before_letters: Sequence[int]
    changes: Changes
