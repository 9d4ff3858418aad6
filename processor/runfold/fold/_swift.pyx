# cython: language_level=3
"""The short cut for what nearly every record is: a run's first ``created``, or the next status of a run with one source.

It goes from a run's body and its records to the new body and row without an object for each event, and decides nothing of
its own: what it does not know it leaves to the fold, before having changed anything. So it may be switched off, or be
missing, and the same log gives the same store. Property tests fold everything both ways and compare the bytes.
"""

from msgspec import Raw
from xxhash import xxh3_64_intdigest

from runfold.fold.admit import DAY, EARLIEST
from runfold.fold.changes import RunChange
from runfold.fold.content import CODE_OF
from runfold.fold.record import StoredRecord
from runfold.fold.run import STATUS_OF
from runfold.fold.state import hash_of_source
from runfold.fold.usage import BucketKey, Dimensions
from runfold_schemas.codec import UNREADABLE
from runfold_schemas.lean import REMEMBERED, SETTINGS, canonical

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) noexcept

include "_message.pxi"
include "_told.pxi"
include "_kept.pxi"
include "_created.pxi"
include "_hashes.pxi"

cdef struct Lying:  # a record's place, and where its value is
    int64_t offset, timestamp
    Slice value


cdef int64_t FIRST_TIME = EARLIEST, A_DAY = DAY
cdef int64_t LAST_TIME = <int64_t> 1 << 48  # so that sums of durations stay far below 64 bits
cdef tuple _NOT_HELD = (0, None)
cdef enum:
    MINUTE = 8  # of a row
    BODY = 10
    OFFSET = 0  # of a stored record
    TIMESTAMP = 1
    KEY = 2
    VALUE = 3
    AHEAD = 4
    MOST_REMEMBERED = 10_000

_new = tuple.__new__  # a named tuple without the detour over its own __new__
_DIMENSIONS = {}  # all partitions meet the same ones: held once, the store finds them by their identity

cdef uint32_t CODES[KINDS]
for _kind, _status in STATUS_OF.items():
    CODES[_status] = CODE_OF[_kind] << 1


cdef inline object value_of(object record):
    return <object> PyTuple_GET_ITEM(record, VALUE) if type(record) is StoredRecord else record.value


cdef inline int64_t offset_of(object record) except? -1:
    return <object> PyTuple_GET_ITEM(record, OFFSET) if type(record) is StoredRecord else record.offset


cdef inline int64_t timestamp_of(object record) except? -1:
    return <object> PyTuple_GET_ITEM(record, TIMESTAMP) if type(record) is StoredRecord else record.timestamp


cdef inline object key_of(object record):
    return <object> PyTuple_GET_ITEM(record, KEY) if type(record) is StoredRecord else record.key


include "_columns.pxi"
include "_met.pxi"


cdef class Swift:
    """A :class:`runfold.fold.short_cut.ShortCut`."""

    cdef int partition
    cdef Py_ssize_t largest_value, most_marks
    cdef Created created
    cdef dict sources, dimensions  # by their bytes
    cdef State state
    cdef Buffer marks, timeline, action, told, out, source
    cdef uint64_t source_hash  # of the source met last
    cdef bytes first, value  # of the first record and of this one: slices point into them

    def __init__(self, int partition, rules):
        self.partition = partition
        self.largest_value = rules.largest_value
        self.most_marks = MARK * (rules.alarm_events - 1)
        self.created = Created(rules)
        self.sources, self.dimensions = {}, _DIMENSIONS

    def __dealloc__(self):
        PyMem_Free(self.marks.at)
        PyMem_Free(self.timeline.at)
        PyMem_Free(self.action.at)
        PyMem_Free(self.told.at)
        PyMem_Free(self.out.at)
        PyMem_Free(self.source.at)

    def by_run(self, records):
        """See runfold.fold.short_cut."""
        return (<Columns> records).by_run() if type(records) is Columns else by_key(records)

    def fold(self, dict runs, dict held, object changes, list unsettled):
        """See runfold.fold.short_cut."""
        cdef Py_ssize_t folded = 0, place = 0, taken
        cdef dict left = {}
        cdef list rows = changes.runs, later = list(runs.values())
        cdef dict usage = changes.usage
        cdef tuple before
        for key, of_run in runs.items():
            place += 1
            if place + AHEAD < len(later):
                call_in(later[place + AHEAD])
            before = held.get(key, _NOT_HELD)
            handle, body = before[0], before[1]
            taken = self.follow_all(key, body, of_run)
            row = self.row(handle, usage) if taken else None
            folded += taken
            if taken < len(of_run):
                left[key] = taken, row
                continue
            rows.append(row)
            if row[MINUTE] is None:
                held[key] = handle, row[BODY]
                if not handle:
                    unsettled.append((key, row))
            elif body is not None:
                del held[key]
        return folded, left

    cdef Py_ssize_t follow_all(self, object key, object body, object records) except -1:
        """How many of a run's records were folded; ``records`` is a list of them, or Rows."""
        cdef State *s = &self.state
        cdef Event e
        cdef Lying record
        cdef Slice run, marks, timeline
        cdef Py_ssize_t taken, count = len(records)
        if type(key) is not bytes:
            return 0
        run = slice_of(key)
        if body is not None:
            if not read_state(slice_of(body), s, &marks, &timeline):
                return 0
            self.marks.size = self.timeline.size = 0
            put_slice(&self.marks, marks)
            put_slice(&self.timeline, timeline)
        for taken in range(count):
            if not (self.find(records, taken, &record) and self.read(&record, run, &e)):
                return taken
            if body is None and not taken:
                if not self.begin(&e):
                    return taken
                s.first_offset = record.offset
            elif not self.follow(&e):
                return taken
            s.last_offset = record.offset
            if s.ended_at != NONE:
                s.final_timestamp = record.timestamp
                return taken + 1
        return count

    cdef int find(self, object records, Py_ssize_t nth, Lying *found) except -1:
        """Where the ``nth`` of a run's records lies: 1, or 0 where its value is no bytes."""
        cdef Rows rows
        if type(records) is Rows:
            rows = <Rows> records
            found.value = rows.of.value(rows.places[nth])
            found.offset, found.timestamp = rows.of.offsets()[rows.places[nth]], rows.of.stamps()[rows.places[nth]]
            return 1
        record = (<list> records)[nth]
        value = value_of(record)
        if type(value) is not bytes:
            return 0
        self.value = value
        found.value, found.offset, found.timestamp = slice_of(value), offset_of(record), timestamp_of(record)
        return 1

    cdef int read(self, const Lying *record, Slice run, Event *e) except -1:
        """The record's event: 1 where it is one that the record itself gives no reason to reject, else 0."""
        return (
            record.value.size <= self.largest_value
            and read_event(record.value, e)
            and equal(e.run_id, run)
            and 0 <= record.timestamp < LAST_TIME
            and FIRST_TIME <= e.occurred_at <= min(record.timestamp + A_DAY, LAST_TIME)
        )

    cdef int begin(self, Event *e) except -1:
        """A new run, by a ``created`` that is its source's first event."""
        cdef State *s = &self.state
        if e.kind != CREATED or e.sequence != 1 or self.most_marks <= 0:
            return 0
        if not self.created.take(e):
            return 0
        self.marks.size = self.timeline.size = 0
        clear(s)
        s.run_id, s.thread_id, self.first = e.run_id, e.thread_id, self.value
        s.first_at = s.since = e.occurred_at
        s.created, s.dimensions = filled(&self.created.data), filled(&self.created.named)
        s.source, s.last = self.source_of(e), 1
        self.put_mark(xxh3(e.id), Slice(self.created.data.at + 1, self.created.said - 1), 0)
        return 1

    cdef int follow(self, Event *e) except -1:
        """The next status that the run may enter, told by its source under the next number."""
        cdef State *s = &self.state
        cdef uint64_t identity
        if not (
            e.kind != CREATED
            and enters(s.status, e.kind)
            and e.sequence == s.last + 1
            and equal(e.run_id, s.run_id)
            and equal(e.thread_id, s.thread_id)
            and self.source_of(e) == s.source
            and self.marks.size < self.most_marks
        ):
            return 0
        identity = xxh3(e.id)
        if self.is_marked(identity) or not self.put_content(e):
            return 0
        self.put_mark(identity, filled(&self.told), <uint32_t> (e.occurred_at << 5 | CODES[e.kind]))
        self.put_fact(e)
        self.enter(e)
        return 1

    cdef int enter(self, const Event *e) except -1:
        cdef State *s = &self.state
        cdef int64_t spent = max(0, e.occurred_at - s.since)
        if s.status == QUEUED:
            s.queue_ms += spent
        elif s.status == IN_PROGRESS:
            s.run_ms += spent
        s.status, s.since, s.last = e.kind, e.occurred_at, e.sequence
        s.action.size = 0
        if e.kind == IN_PROGRESS:
            s.started_at = e.occurred_at
        elif e.kind == REQUIRES_ACTION:  # kept: what comes next may be told into the same buffer
            self.action.size = 0
            put(&self.action, self.told.at + e.thread_id.size, self.told.size - e.thread_id.size)
            s.action = filled(&self.action)
        elif e.kind >= CANCELLED:
            s.ended_at = e.occurred_at
            s.has_usage, s.usage = e.has_usage, e.usage
            s.last_error, s.incomplete_details = told_of(e, LAST_ERROR), told_of(e, INCOMPLETE_DETAILS)
        return 0

    cdef int put_content(self, Event *e) except -1:
        """What is hashed of an event's content, see runfold.fold.content: 1, or 0 where that is out of the ordinary."""
        cdef bint more = (e.told >> LAST_ERROR | e.told >> INCOMPLETE_DETAILS) & 1
        self.told.size = 0
        if e.kind < CANCELLED:
            put_slice(&self.told, e.thread_id)
            return 1 if e.kind != REQUIRES_ACTION else put_action(&self.told, e.values[REQUIRED_ACTION])
        put_byte(&self.told, 0x94 if more else 0x92)
        put_text(&self.told, e.thread_id)
        e.has_usage = e.told >> USAGE & 1
        if not e.has_usage:
            put_byte(&self.told, NIL)
        elif read_usage(e.values[USAGE], &e.usage):
            put_usage(&self.told, &e.usage)
        else:
            return 0
        return not more or (self.put_free(e, LAST_ERROR) and self.put_free(e, INCOMPLETE_DETAILS))

    cdef int put_free(self, Event *e, int key) except -1:
        """A free-form value that is null or a few texts, in order, so that it is what it would be encoded to."""
        cdef Flat flat
        if not e.told >> key & 1:
            return put_byte(&self.told, NIL) + 1
        return read_flat(e.values[key], &flat) and flat.ordered and put_slice(&self.told, e.values[key]) + 1

    cdef uint64_t source_of(self, Event *e) except? 0:
        cdef bytes name
        if self.source.size and equal(e.source, filled(&self.source)):  # as nearly always the same as the last one
            return self.source_hash
        name = PyBytes_FromStringAndSize(<const char *> e.source.at, e.source.size)
        hashed = self.sources.get(name)
        if hashed is None:
            if len(self.sources) >= MOST_REMEMBERED:
                self.sources.clear()
            hashed = self.sources[name] = hash_of_source(name.decode())
        self.source.size, self.source_hash = 0, hashed
        put_slice(&self.source, e.source)
        return hashed

    cdef bint is_marked(self, uint64_t identity) noexcept:
        cdef uint8_t packed[8]
        cdef Py_ssize_t place
        pack_big(packed, 8, identity)
        for place in range(0, self.marks.size, MARK):
            if memcmp(self.marks.at + place, packed, 8) == 0:
                return True
        return False

    cdef int put_mark(self, uint64_t identity, Slice content, uint32_t seed) except -1:
        cdef uint8_t packed[MARK]
        pack_big(packed, 8, identity)
        pack_big(packed + 8, 4, xxh32(content.at, content.size, seed))
        return put(&self.marks, packed, MARK)

    cdef int put_fact(self, const Event *e) except -1:
        """See runfold.fold.timeline: the source is the run's first, and all numbers are little-endian."""
        cdef uint8_t packed[FACT]
        cdef int place
        packed[0] = packed[1] = 0
        packed[2] = e.kind | (16 if e.kind >= CANCELLED else 0)
        for place in range(8):
            packed[3 + place] = <uint64_t> e.sequence >> 8 * place & 0xFF
            packed[11 + place] = <uint64_t> e.occurred_at >> 8 * place & 0xFF
        return put(&self.timeline, packed, FACT)

    cdef object row(self, object handle, dict usage):
        """The run's row as runfold.fold.batch.row_of makes it; what it booked, if it ended, is added to ``usage``."""
        cdef State *s = &self.state
        cdef object minute = None, final_timestamp = None
        dimensions = self.dimensions_of(s.dimensions)
        put_state(&self.out, s, filled(&self.marks), filled(&self.timeline))
        if s.ended_at != NONE:
            minute, final_timestamp = s.ended_at // 60_000, s.final_timestamp
            self.book(_new(BucketKey, (minute, dimensions, s.status)), usage)
        fields = (
            self.partition,
            text_of(s.run_id),
            handle,
            text_of(s.thread_id),
            s.status,
            s.first_at // 1000,
            0,
            dimensions,
            minute,
            final_timestamp,
            PyBytes_FromStringAndSize(<const char *> self.out.at, self.out.size),
        )
        return _new(RunChange, fields)

    cdef object dimensions_of(self, Slice encoded):
        cdef bytes name = PyBytes_FromStringAndSize(<const char *> encoded.at, encoded.size)
        cdef Cursor c = cursor_over(Slice(encoded.at + 1, encoded.size - 1))
        cdef Slice text
        found = self.dimensions.get(name)
        if found is None:
            if len(self.dimensions) >= MOST_REMEMBERED:
                self.dimensions.clear()
            texts = []
            while read_text(&c, &text):
                texts.append(text_of(text))
            found = self.dimensions[name] = Dimensions(*texts)
        return found

    cdef int book(self, object bucket, dict usage) except -1:
        """Add what the run that has just ended used, as runfold.fold.usage.book counts it."""
        cdef State *s = &self.state
        cdef Usage *u = &s.usage
        cdef int64_t sums[10]
        cdef bint timed = s.started_at != NONE
        cdef int place
        sums = [1, 1, 0, 0, 0, 0, 0, timed, s.queue_ms if timed else 0, s.run_ms if timed else 0]
        if s.has_usage:
            sums[1] = 0
            sums[2], sums[4], sums[6] = u.prompt, u.completion, u.total
            sums[3] = max(0, u.prompt_details[0]) if u.has_prompt_details else 0
            sums[5] = max(0, u.completion_details[1]) if u.has_completion_details else 0
        booked = usage.get(bucket)
        if booked is None:
            usage[bucket] = [sums[place] for place in range(10)]
            return 0
        for place in range(10):
            if sums[place]:
                (<list> booked)[place] += sums[place]
        return 0


cdef bint enters(int status, int kind) noexcept:
    """Tell whether the table lets a run in ``status`` enter the status ``kind``; what else it says is left to the fold."""
    return kind >= CANCELLED or (status != CANCELLING and status != kind)


cdef int call_in(object records) except -1:
    """Have the values of records fetched into the cache: a run's records lie far apart, and waiting for them cost a sixth."""
    cdef Rows rows
    cdef Py_ssize_t nth
    if type(records) is Rows:
        rows = <Rows> records
        for nth in range(rows.count):
            prefetch_lines(rows.of.value(rows.places[nth]).at)
        return 0
    for record in <list> records:
        value = value_of(record)
        prefetch_lines(<const void *> <PyObject *> value)
    return 0


cdef inline void prefetch_lines(const void *at) noexcept:
    cdef int line
    for line in range(4):
        prefetch(<const char *> at + 64 * line)


cdef inline Slice filled(const Buffer *b) noexcept:
    return Slice(b.at, b.size)


cdef inline Slice told_of(const Event *e, int key) noexcept:
    return e.values[key] if e.told >> key & 1 else Slice(NULL, 0)


cdef inline object text_of(Slice text):
    return text.at[: text.size].decode()


cdef inline void pack_big(uint8_t *packed, int width, uint64_t number) noexcept:
    cdef int place
    for place in range(width - 1, -1, -1):
        packed[place] = number & 0xFF
        number >>= 8
