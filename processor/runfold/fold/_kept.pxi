# A run's state as its row keeps it, read from the body and written to a new one. Of all that a state can be only that of an
# open run is read with which nothing out of the ordinary has happened: one source, nothing missing, no flags, no corrections.
# The order of the fields is that of runfold.fold.state.RunState.

cdef enum:
    MARK = 12
    FACT = 19
    STATE_FIELDS = 28

cdef int64_t NONE = <int64_t> -1 << 62


cdef struct State:
    Slice run_id
    Slice thread_id
    Slice created
    Slice dimensions  # the encoded array
    Slice action  # empty: none
    Slice last_error  # encoded, empty: none
    Slice incomplete_details
    int64_t first_at
    int64_t since
    int64_t started_at
    int64_t queue_ms
    int64_t run_ms
    int64_t ended_at
    int64_t last  # number of the source
    int64_t first_offset
    int64_t last_offset
    int64_t final_timestamp
    uint64_t source
    int status
    bint has_usage
    Usage usage


cdef inline void clear(State *s) noexcept:
    s.action.size = s.last_error.size = s.incomplete_details.size = 0
    s.started_at = s.ended_at = s.final_timestamp = NONE
    s.queue_ms = s.run_ms = 0
    s.status = QUEUED
    s.has_usage = False


cdef bint read_state(Slice body, State *s, Slice *marks, Slice *timeline) noexcept:
    cdef Cursor c = cursor_over(body)
    clear(s)
    return (
        take(&c, 0xDC)
        and take(&c, 0)
        and take(&c, STATE_FIELDS)
        and read_text(&c, &s.run_id)
        and read_text(&c, &s.thread_id)
        and read_int(&c, &s.first_at)
        and s.first_at >= 0
        and read_int(&c, &s.since)
        and read_bin(&c, &s.created)
        and read_progress(&c, s)
        and read_dimensions(&c, &s.dimensions)
        and take(&c, 0)  # flags
        and read_bin(&c, marks)
        and marks.size % MARK == 0
        and read_bin(&c, timeline)
        and read_source(&c, s)
        and numbered(timeline[0], s.last)
        and read_int(&c, &s.first_offset)
        and s.first_offset >= 0
        and read_int(&c, &s.last_offset)
        and take(&c, NIL)  # final_offset
        and take(&c, NIL)  # final_timestamp
        and take(&c, 0)  # excess_corrections
        and c.at == c.end
    )


cdef bint read_progress(Cursor *c, State *s) noexcept:
    cdef int64_t status
    if not read_int(c, &status) or not QUEUED <= status < CANCELLED:
        return False
    s.status = <int> status
    if not take(c, NIL) and not read_int(c, &s.started_at):
        return False
    return (
        read_int(c, &s.queue_ms)
        and read_int(c, &s.run_ms)
        and take(c, TRUE)  # exact
        and take(c, NIL)  # ended_at
        and (take(c, NIL) or read_bin(c, &s.action))
        and take(c, NIL)  # last_error
        and take(c, NIL)  # incomplete_details
        and take(c, NIL)  # usage
        and take(c, FALSE)  # usage_corrected
        and take(c, NIL)  # metadata
        and take(c, FALSE)  # told_at_end
    )


cdef bint read_dimensions(Cursor *c, Slice *dimensions) noexcept:
    cdef Slice text
    dimensions.at = c.at
    if not take(c, 0x95):
        return False
    for _ in range(5):
        if not read_text(c, &text):
            return False
    dimensions.size = c.at - dimensions.at
    return True


cdef bint read_source(Cursor *c, State *s) noexcept:
    return (
        take(c, 0x91)
        and take(c, 0x96)
        and read_unsigned(c, &s.source)
        and read_int(c, &s.last)
        and take(c, 0x90)  # missing
        and take(c, FALSE)  # counted_anew
        and take(c, NIL)  # modified
        and take(c, NIL)  # corrected
    )


cdef bint numbered(Slice timeline, int64_t last) noexcept:
    """Tell whether the last fact of a timeline is the source's, with a number that the next one's will be above."""
    cdef Cursor c
    cdef uint64_t number = 0
    cdef int place
    if timeline.size % FACT:
        return False
    if not timeline.size:
        return True
    c = cursor_over(Slice(timeline.at + timeline.size - FACT, FACT))
    if not take(&c, 0) or not take(&c, 0):
        return False
    for place in range(8):
        number |= <uint64_t> c.at[1 + place] << 8 * place
    return 0 < number <= <uint64_t> max(0, last)


cdef int put_state(Buffer *b, const State *s, Slice marks, Slice timeline) except -1:
    b.size = 0
    put_headed(b, 0xDC, 2, STATE_FIELDS)
    put_text(b, s.run_id)
    put_text(b, s.thread_id)
    put_int(b, s.first_at)
    put_int(b, s.since)
    put_bin(b, s.created)
    put_int(b, s.status)
    put_known(b, s.started_at)
    put_int(b, s.queue_ms)
    put_int(b, s.run_ms)
    put_byte(b, TRUE)
    put_end(b, s)
    put_slice(b, s.dimensions)
    put_byte(b, 0)
    put_bin(b, marks)
    put_bin(b, timeline)
    put(b, b"\x91\x96", 2)
    put_unsigned(b, s.source)
    put_int(b, s.last)
    put(b, b"\x90\xc2\xc0\xc0", 4)
    put_int(b, s.first_offset)
    put_int(b, s.last_offset)
    put_known(b, NONE if s.ended_at == NONE else s.last_offset)
    put_known(b, s.final_timestamp)
    return put_byte(b, 0)


cdef int put_end(Buffer *b, const State *s) except -1:
    put_known(b, s.ended_at)
    if s.action.size:
        put_bin(b, s.action)
    else:
        put_byte(b, NIL)
    put_told(b, s.last_error)
    put_told(b, s.incomplete_details)
    if s.has_usage:
        put_usage(b, &s.usage)
    else:
        put_byte(b, NIL)
    return put(b, b"\xc2\xc0\xc2", 3)  # usage_corrected, metadata, told_at_end


cdef inline int put_known(Buffer *b, int64_t number) except -1:
    return put_byte(b, NIL) if number == NONE else put_int(b, number)


cdef inline int put_told(Buffer *b, Slice encoded) except -1:
    return put_slice(b, encoded) if encoded.size else put_byte(b, NIL)
