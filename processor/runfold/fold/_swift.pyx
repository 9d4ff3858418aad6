# cython: language_level=3
"""The short cut for what nearly every record is: a run's first ``created``, or the next status of a run with one source.

It goes from a run's body and its records to the new body and row without an object for each event, and decides nothing of
its own: what it does not know it leaves to the fold, before having changed anything. So it may be switched off, or be
missing, and the same log gives the same store. Property tests fold everything both ways and compare the bytes.
"""

from xxhash import xxh3_64_intdigest, xxh32_intdigest

from runfold.fold.admit import DAY, EARLIEST
from runfold.fold.changes import RunChange
from runfold.fold.content import CODE_OF
from runfold.fold.record import StoredRecord
from runfold.fold.run import STATUS_OF
from runfold.fold.state import hash_of_source
from runfold.fold.usage import BucketKey, Dimensions
from runfold_schemas.lean import REMEMBERED, SETTINGS

from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.ref cimport PyObject

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) noexcept

include "_message.pxi"
include "_told.pxi"
include "_kept.pxi"

from cpython.bytes cimport PyBytes_FromStringAndSize

cdef int64_t FIRST_TIME = EARLIEST, A_DAY = DAY
cdef int64_t LAST_TIME = <int64_t> 1 << 48  # so that sums of durations stay far below 64 bits
cdef tuple _NOT_HELD = (0, None)
cdef enum:
    MINUTE = 8  # of a row
    BODY = 10
    VALUE = 3  # of a stored record
    AHEAD = 4
    MOST_REMEMBERED = 10_000

_new = tuple.__new__  # a named tuple without the detour over its own __new__

cdef uint32_t CODES[KINDS]
for _kind, _status in STATUS_OF.items():
    CODES[_status] = CODE_OF[_kind] << 1


cdef class Swift:
    """A :class:`runfold.fold.short_cut.ShortCut`."""

    cdef int partition
    cdef Py_ssize_t largest_value, most_marks
    cdef Slice named_by[3]
    cdef object names  # what named_by points into
    cdef dict sources, dimensions  # by their bytes
    cdef list remembered  # canonical values of each free-form field
    cdef State state
    cdef Buffer created, named, marks, timeline, action, told, out
    cdef bytes first, value  # of the first record and of this one: slices point into them

    def __init__(self, int partition, rules):
        self.partition = partition
        self.largest_value = rules.largest_value
        self.most_marks = MARK * (rules.alarm_events - 1)
        self.names = [name.encode() for name in (rules.project_key, rules.user_key, rules.api_key_key)]
        for place in range(3):
            self.named_by[place] = slice_of(self.names[place])
        self.sources, self.dimensions = {}, {}
        self.remembered = [REMEMBERED.get(name.decode()) for name in _WORDS[FIELDS]]

    def __dealloc__(self):
        PyMem_Free(self.created.at)
        PyMem_Free(self.named.at)
        PyMem_Free(self.marks.at)
        PyMem_Free(self.timeline.at)
        PyMem_Free(self.action.at)
        PyMem_Free(self.told.at)
        PyMem_Free(self.out.at)

    def fold(self, dict runs, dict held, object changes, list unsettled):
        """See runfold.fold.short_cut."""
        cdef Py_ssize_t folded = 0, place = 0, taken
        cdef dict left = {}
        cdef list records, rows = changes.runs, later = list(runs.values())
        cdef dict usage = changes.usage
        cdef tuple before
        for key, of_run in runs.items():
            records = of_run
            place += 1
            if place + AHEAD < len(later):
                call_in(<list> later[place + AHEAD])
            before = held.get(key, _NOT_HELD)
            handle, body = before[0], before[1]
            taken = self.follow_all(key, body, records)
            row = self.row(handle, usage) if taken else None
            folded += taken
            if taken < len(records):
                left[key] = taken, row
                continue
            rows.append(row)
            held[key] = handle, row[BODY]
            if not handle or row[MINUTE] is not None:
                unsettled.append(row)
        return folded, left

    cdef Py_ssize_t follow_all(self, object key, object body, list records) except -1:
        cdef State *s = &self.state
        cdef Event e
        cdef Slice run, marks, timeline
        cdef Py_ssize_t taken = 0
        if type(key) is not bytes:
            return 0
        run = slice_of(key)
        if body is not None:
            if not read_state(slice_of(body), s, &marks, &timeline):
                return 0
            self.marks.size = self.timeline.size = 0
            put_slice(&self.marks, marks)
            put_slice(&self.timeline, timeline)
        for record in records:
            if not self.read(record, run, &e):
                break
            if body is None and not taken:
                if not self.begin(&e):
                    break
                s.first_offset = record.offset
            elif not self.follow(&e):
                break
            taken += 1
            if s.ended_at != NONE:
                s.final_timestamp = record.timestamp
                break
        if taken:
            s.last_offset = records[taken - 1].offset
        return taken

    cdef int read(self, object record, Slice run, Event *e) except -1:
        """The record's event: 1 where it is one that the record itself gives no reason to reject, else 0."""
        cdef object value = <object> PyTuple_GET_ITEM(record, VALUE) if type(record) is StoredRecord else record.value
        cdef int64_t published
        if type(value) is not bytes or len(value) > self.largest_value:
            return 0
        self.value = value
        if not read_event(slice_of(value), e) or not equal(e.run_id, run):
            return 0
        published = record.timestamp
        return 0 <= published < LAST_TIME and FIRST_TIME <= e.occurred_at <= min(published + A_DAY, LAST_TIME)

    cdef int begin(self, Event *e) except -1:
        """A new run, by a ``created`` that is its source's first event."""
        cdef State *s = &self.state
        cdef Py_ssize_t said
        if e.kind != CREATED or e.sequence != 1 or self.most_marks <= 0:
            return 0
        self.created.size = self.named.size = self.marks.size = self.timeline.size = 0
        put_byte(&self.created, 0x92)
        if not self.put_said(e):
            return 0
        said = self.created.size
        if not self.put_beside(e):
            return 0
        clear(s)
        s.run_id, s.thread_id, self.first = e.run_id, e.thread_id, self.value
        s.first_at = s.since = e.occurred_at
        s.created, s.dimensions = filled(&self.created), filled(&self.named)
        s.source, s.last = self.source_of(e), 1
        self.put_mark(self.identity_of(e), Slice(self.created.at + 1, said - 1), 0)
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
        identity = self.identity_of(e)
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

    cdef int put_said(self, Event *e) except -1:
        """What a ``created`` settles, as runfold_schemas.lean.said_by has it: 1, or 0 where it is out of the ordinary."""
        cdef Buffer *b = &self.created
        cdef int key, settings = TEMPERATURE
        for key in range(TEMPERATURE, EXTRA):
            if e.told >> key & 1:
                settings = key + 1
        put_byte(b, <uint8_t> (0x95 + settings - TEMPERATURE))
        put_text(b, e.thread_id)
        if not (put_field(b, e, ASSISTANT_ID, 0xA0) and put_field(b, e, MODEL, 0xA0) and put_field(b, e, INSTRUCTIONS, NIL)):
            return 0
        if not self.put_canonical(b, e, TOOLS, 0x90):
            return 0
        for key in range(TEMPERATURE, settings):
            if not self.put_setting(b, e, key):
                return 0
        return 1

    cdef int put_setting(self, Buffer *b, Event *e, int key) except -1:
        cdef Slice value = e.values[key]
        cdef int64_t number
        if not e.told >> key & 1:
            return put_byte(b, NIL) + 1
        if key == REASONING_EFFORT:
            return put_field(b, e, key, NIL)
        if key > REASONING_EFFORT:
            return self.put_canonical(b, e, key, NIL)
        if key == PARALLEL_TOOL_CALLS:
            return FALSE <= value.at[0] <= TRUE and put_slice(b, value) + 1
        if key <= TOP_P:  # a finite double
            return (
                value.at[0] == 0xCB
                and not (value.at[1] & 0x7F == 0x7F and value.at[2] & 0xF0 == 0xF0)
                and put_slice(b, value) + 1
            )
        return int_in(value, &number) and put_int(b, number) + 1

    cdef int put_beside(self, Event *e) except -1:
        """The rest of a ``created``, as said_beside has it, and its dimensions: 1, or 0."""
        cdef Buffer *b = &self.created
        cdef Flat metadata
        cdef int64_t expires_at
        metadata.count = 0
        put_byte(b, 0x93 if e.told >> EXTRA & 1 else 0x92)
        if not e.told >> METADATA & 1:
            put_byte(b, 0x80)
        elif read_flat(e.values[METADATA], &metadata):
            put_slice(b, e.values[METADATA])
        else:
            return 0
        if not e.told >> EXPIRES_AT & 1:
            put_byte(b, NIL)
        elif int_in(e.values[EXPIRES_AT], &expires_at):
            put_int(b, expires_at)
        else:
            return 0
        if e.told >> EXTRA & 1 and not self.put_canonical(b, e, EXTRA, NIL):
            return 0
        return self.put_dimensions(e, &metadata)

    cdef int put_dimensions(self, Event *e, const Flat *metadata) except -1:
        cdef Buffer *b = &self.named
        cdef int name, place
        put_byte(b, 0x95)
        if not (put_field(b, e, MODEL, 0xA0) and put_field(b, e, ASSISTANT_ID, 0xA0)):
            return 0
        for name in range(3):
            for place in range(metadata.count):
                if equal(metadata.keys[place], self.named_by[name]):
                    put_text(b, metadata.values[place])
                    break
            else:
                put_byte(b, 0xA0)
        return 1

    cdef int put_canonical(self, Buffer *b, Event *e, int key, uint8_t absent) except -1:
        """A free-form value with its keys in order, if it is one that was seen before."""
        cdef Slice value = e.values[key]
        cdef bytes canonical
        if not e.told >> key & 1:
            return put_byte(b, absent) + 1
        found = (<dict> self.remembered[key]).get(PyBytes_FromStringAndSize(<const char *> value.at, value.size))
        if found is None:
            return 0
        canonical = bytes(found)  # by name, or it would be gone before it is copied
        return put_slice(b, slice_of(canonical)) + 1

    cdef uint64_t source_of(self, Event *e) except? 0:
        cdef bytes name = PyBytes_FromStringAndSize(<const char *> e.source.at, e.source.size)
        hashed = self.sources.get(name)
        if hashed is None:
            if len(self.sources) >= MOST_REMEMBERED:
                self.sources.clear()
            hashed = self.sources[name] = hash_of_source(name.decode())
        return hashed

    cdef uint64_t identity_of(self, Event *e) except? 0:
        return xxh3_64_intdigest(PyBytes_FromStringAndSize(<const char *> e.id.at, e.id.size))

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
        hashed = xxh32_intdigest(PyBytes_FromStringAndSize(<const char *> content.at, content.size), seed)
        pack_big(packed, 8, identity)
        pack_big(packed + 8, 4, hashed)
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


cdef inline int call_in(list records) except -1:
    """Have the values of records fetched into the cache: a run's records lie far apart, and waiting for them cost a sixth."""
    cdef const char *at
    cdef int line
    for record in records:
        if type(record) is StoredRecord:  # of others it would cost as much to know where their values are
            at = <const char *> PyTuple_GET_ITEM(record, VALUE)
            for line in range(4):
                prefetch(at + 64 * line)
    return 0


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


cdef int put_field(Buffer *b, Event *e, int key, uint8_t absent) except -1:
    """A field that is text, or ``absent``: 1, or 0 where it is something else."""
    cdef Cursor c
    cdef Slice text
    if not e.told >> key & 1:
        return put_byte(b, absent) + 1
    c = cursor_over(e.values[key])
    return read_text(&c, &text) and put_text(b, text) + 1
