# What an event tells, read from its bytes: the fields that every event has, and the shapes of the others that are usual.

cdef enum:  # fields of events
    TYPE, RUN_ID, THREAD_ID, ID, OCCURRED_AT, SOURCE, SEQUENCE
    ASSISTANT_ID, MODEL, INSTRUCTIONS, TOOLS, METADATA, EXPIRES_AT
    # The settings, in the order in which they are remembered.
    TEMPERATURE, TOP_P, MAX_PROMPT_TOKENS, MAX_COMPLETION_TOKENS, PARALLEL_TOOL_CALLS, REASONING_EFFORT
    TRUNCATION_STRATEGY, RESPONSE_FORMAT, TOOL_CHOICE, TOOL_RESOURCES
    EXTRA, REQUIRED_ACTION, USAGE, LAST_ERROR, INCOMPLETE_DETAILS
    KEYS

cdef enum:  # kinds of events; those of a status have its number
    QUEUED, IN_PROGRESS, REQUIRES_ACTION, CANCELLING, CANCELLED, FAILED, COMPLETED, INCOMPLETE, EXPIRED
    CREATED
    KINDS

_WORDS = (  # a reference of their own: the tables below point into them
    tuple(b"type run_id thread_id id occurred_at source sequence".split())
    + tuple(b"assistant_id model instructions tools metadata expires_at".split())
    + tuple(name.encode() for name in SETTINGS)
    + tuple(b"extra required_action usage last_error incomplete_details".split()),
    tuple(b"queued in_progress requires_action cancelling cancelled failed completed incomplete expired created".split()),
    tuple(b"prompt_tokens completion_tokens total_tokens prompt_token_details completion_tokens_details".split()),
    (b"cached_tokens", b"reasoning_tokens"),
    (b"submit_tool_outputs", b"type"),
    (b"tool_calls",),
    (b"function", b"id", b"type"),
    (b"arguments", b"name"),
)
cdef Slice WORDS[8][KEYS]
cdef int COUNTS[8]
for _place, _words in enumerate(_WORDS):
    COUNTS[_place] = len(_words)
    for _at, _word in enumerate(_words):
        WORDS[_place][_at] = slice_of(_word)

cdef enum:  # tables of words
    FIELDS, STATUSES, USAGE_FIELDS, DETAILS, ACTION, OUTPUTS, CALL, FUNCTION

cdef Slice PREFIX = slice_of(b"thread.run.")

cdef uint32_t COMMON = (1 << ASSISTANT_ID) - 1
cdef uint32_t OF_CREATED = (1 << REQUIRED_ACTION) - (1 << ASSISTANT_ID)
cdef uint32_t OF_ENDS = 1 << USAGE | 1 << LAST_ERROR | 1 << INCOMPLETE_DETAILS
cdef uint32_t NULLABLE = (1 << EXTRA) - (1 << TEMPERATURE) | 1 << INSTRUCTIONS | 1 << EXPIRES_AT | OF_ENDS


cdef struct Usage:
    int64_t prompt
    int64_t completion
    int64_t total
    bint has_prompt_details
    bint has_completion_details
    int64_t prompt_details[2]  # cached and reasoning tokens, -1 where none are told
    int64_t completion_details[2]


cdef struct Event:
    uint32_t told  # a bit for each key with a value that is not null
    int kind
    Slice values[KEYS]  # as they stand
    Slice run_id
    Slice thread_id
    Slice id
    Slice source
    int64_t occurred_at
    int64_t sequence
    bint has_usage
    Usage usage


cdef struct Flat:
    # A map from text to text, in order of its keys or not.
    int count
    bint ordered
    Slice keys[FEW]
    Slice values[FEW]


cdef bint text_in(Slice value, Py_ssize_t most, Slice *text) noexcept:
    """The text that a value is, of 1 to ``most`` bytes."""
    cdef Cursor c = cursor_over(value)
    return read_text(&c, text) and 1 <= text.size <= most


cdef bint int_in(Slice value, int64_t *number) noexcept:
    cdef Cursor c = cursor_over(value)
    return read_int(&c, number)


cdef bint read_event(Slice value, Event *e) noexcept:
    """An event with a source and a number, and with no field that its kind does not have."""
    cdef Cursor c = cursor_over(value)
    cdef int key
    if not read_map(&c, WORDS[FIELDS], KEYS, e.values, &e.told) or c.at != c.end:
        return False
    for key in range(INSTRUCTIONS, KEYS):
        if e.told >> key & 1 and e.values[key].at[0] == NIL:
            if not NULLABLE >> key & 1:
                return False
            e.told ^= <uint32_t> 1 << key
    return (
        e.told & COMMON == COMMON
        and read_kind(e)
        and text_in(e.values[RUN_ID], 256, &e.run_id)
        and text_in(e.values[THREAD_ID], 256, &e.thread_id)
        and text_in(e.values[ID], 64, &e.id)
        and text_in(e.values[SOURCE], 64, &e.source)
        and int_in(e.values[OCCURRED_AT], &e.occurred_at)
        and int_in(e.values[SEQUENCE], &e.sequence)
    )


cdef bint read_kind(Event *e) noexcept:
    cdef Slice tag
    cdef int kind
    cdef uint32_t more = e.told & ~COMMON
    if not text_in(e.values[TYPE], 64, &tag) or tag.size < PREFIX.size or memcmp(tag.at, PREFIX.at, PREFIX.size):
        return False
    tag.at += PREFIX.size
    tag.size -= PREFIX.size
    for kind in range(KINDS):
        if equal(tag, WORDS[STATUSES][kind]):
            break
    else:
        return False
    e.kind = kind
    if kind == CREATED:
        return not more & ~OF_CREATED
    if kind == REQUIRES_ACTION:
        return more == <uint32_t> 1 << REQUIRED_ACTION
    return not (more & ~OF_ENDS if kind >= CANCELLED else more)


cdef bint read_usage(Slice value, Usage *u) noexcept:
    cdef Cursor c = cursor_over(value)
    cdef Slice values[5]
    cdef uint32_t told
    if not read_map(&c, WORDS[USAGE_FIELDS], 5, values, &told) or told & 7 != 7:
        return False
    if not (int_in(values[0], &u.prompt) and int_in(values[1], &u.completion) and int_in(values[2], &u.total)):
        return False
    u.has_prompt_details = told >> 3 & 1 and values[3].at[0] != NIL
    u.has_completion_details = told >> 4 & 1 and values[4].at[0] != NIL
    if u.has_prompt_details and not read_details(values[3], u.prompt_details):
        return False
    if u.has_completion_details and not read_details(values[4], u.completion_details):
        return False
    return u.prompt >= 0 and u.completion >= 0 and u.total >= 0


cdef bint read_details(Slice value, int64_t *counts) noexcept:
    cdef Cursor c = cursor_over(value)
    cdef Slice values[2]
    cdef uint32_t told
    cdef int place
    if not read_map(&c, WORDS[DETAILS], 2, values, &told):
        return False
    for place in range(2):
        counts[place] = -1
        if told >> place & 1 and values[place].at[0] != NIL:
            if not int_in(values[place], &counts[place]) or counts[place] < 0:
                return False
    return True


cdef bint read_flat(Slice value, Flat *flat) noexcept:
    """A map of fewer than 16 texts, none of its keys twice: its bytes are those that it would be encoded to again."""
    cdef Cursor c = cursor_over(value)
    cdef uint8_t first
    cdef int place, other
    if not take_first(&c, &first) or not 0x80 <= first <= 0x8F:
        return False
    flat.count, flat.ordered = first & 15, True
    for place in range(flat.count):
        if not read_text(&c, &flat.keys[place]) or not read_text(&c, &flat.values[place]):
            return False
        for other in range(place):
            if equal(flat.keys[other], flat.keys[place]):
                return False
        if place and not before(flat.keys[place - 1], flat.keys[place]):
            flat.ordered = False
    return c.at == c.end


cdef bint before(Slice one, Slice other) noexcept:
    cdef int order = memcmp(one.at, other.at, min(one.size, other.size))
    return order < 0 or (order == 0 and one.size < other.size)


cdef int put_usage(Buffer *b, const Usage *u) except -1:
    put_byte(b, <uint8_t> (0x83 + u.has_prompt_details + u.has_completion_details))
    put_text(b, WORDS[USAGE_FIELDS][0])
    put_int(b, u.prompt)
    put_text(b, WORDS[USAGE_FIELDS][1])
    put_int(b, u.completion)
    put_text(b, WORDS[USAGE_FIELDS][2])
    put_int(b, u.total)
    if u.has_prompt_details:
        put_text(b, WORDS[USAGE_FIELDS][3])
        put_details(b, u.prompt_details)
    if u.has_completion_details:
        put_text(b, WORDS[USAGE_FIELDS][4])
        put_details(b, u.completion_details)
    return 0


cdef int put_details(Buffer *b, const int64_t *counts) except -1:
    cdef int place
    put_byte(b, <uint8_t> (0x80 + (counts[0] >= 0) + (counts[1] >= 0)))
    for place in range(2):
        if counts[place] >= 0:
            put_text(b, WORDS[DETAILS][place])
            put_int(b, counts[place])
    return 0


cdef int put_action(Buffer *b, Slice value) except -1:
    """An action of the usual shape with its keys in order: 1, or 0 where it has another shape."""
    cdef Cursor c = cursor_over(value)
    cdef Slice values[2]
    cdef Slice calls, kind
    cdef uint32_t told
    cdef uint8_t first
    if not read_map(&c, WORDS[ACTION], 2, values, &told) or told != 3:
        return 0
    if not text_in(values[1], 32, &kind) or not equal(kind, WORDS[ACTION][0]):
        return 0
    c = cursor_over(values[0])
    if not read_map(&c, WORDS[OUTPUTS], 1, &calls, &told) or told != 1:
        return 0
    c = cursor_over(calls)
    if not take_first(&c, &first) or not 0x90 <= first <= 0x9F:
        return 0
    put_byte(b, 0x82)
    put_text(b, WORDS[ACTION][0])
    put_byte(b, 0x81)
    put_text(b, WORDS[OUTPUTS][0])
    put_byte(b, first)
    for _ in range(first & 15):
        if not put_call(b, &c):
            return 0
    put_text(b, WORDS[ACTION][1])
    put_text(b, WORDS[ACTION][0])
    return 1


cdef int put_call(Buffer *b, Cursor *c) except -1:
    cdef Cursor inner
    cdef Slice values[3]
    cdef Slice function[2]
    cdef uint32_t told
    if not read_map(c, WORDS[CALL], 3, values, &told) or told != 7:
        return 0
    inner = cursor_over(values[0])
    if not read_map(&inner, WORDS[FUNCTION], 2, function, &told) or told != 3:
        return 0
    put_byte(b, 0x83)
    put_text(b, WORDS[CALL][0])
    put_byte(b, 0x82)
    if not (put_named(b, WORDS[FUNCTION][0], function[0]) and put_named(b, WORDS[FUNCTION][1], function[1])):
        return 0
    return put_named(b, WORDS[CALL][1], values[1]) and put_named(b, WORDS[CALL][2], values[2])


cdef int put_named(Buffer *b, Slice name, Slice value) except -1:
    """A name and a value that is text: 1, or 0 where it is none."""
    cdef Cursor c = cursor_over(value)
    cdef Slice text
    if not read_text(&c, &text):
        return 0
    put_text(b, name)
    put_text(b, text)
    return 1
