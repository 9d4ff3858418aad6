# What a run's `created` tells, from its event to the bytes that are kept of it: as runfold_schemas.lean has them.


cdef class Created:
    """The last ``created`` that was taken: ``data`` is what is kept of it, ``named`` its dimensions as they are encoded."""

    cdef Buffer data, named
    cdef Py_ssize_t said  # where in the data the part ends that is hashed; it begins at 1
    cdef Slice named_by[3]
    cdef list names  # what named_by points into
    cdef list remembered  # canonical values of each free-form field

    def __init__(self, rules):
        self.names = [name.encode() for name in (rules.project_key, rules.user_key, rules.api_key_key)]
        for place in range(3):
            self.named_by[place] = slice_of(self.names[place])
        self.remembered = [REMEMBERED.get(name.decode()) for name in _WORDS[FIELDS]]

    def __dealloc__(self):
        PyMem_Free(self.data.at)
        PyMem_Free(self.named.at)

    cdef int take(self, Event *e) except -1:
        """1, or 0 where it tells what is out of the ordinary."""
        self.data.size = self.named.size = 0
        put_byte(&self.data, 0x92)
        if not self.put_said(e):
            return 0
        self.said = self.data.size
        return self.put_beside(e)

    cdef int put_said(self, Event *e) except -1:
        """What a ``created`` settles, as runfold_schemas.lean.said_by has it: 1, or 0 where it is out of the ordinary."""
        cdef Buffer *b = &self.data
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
        cdef Buffer *b = &self.data
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
        """A free-form value with its keys in order: 1, or 0 where it has to be told what is wrong with it."""
        cdef Slice value = e.values[key]
        cdef bytes data, ordered
        if not e.told >> key & 1:
            return put_byte(b, absent) + 1
        data = PyBytes_FromStringAndSize(<const char *> value.at, value.size)
        found = (<dict> self.remembered[key]).get(data)
        if found is None:  # remembered from now on: the other runs of this batch have the same tools
            try:
                found = canonical(_WORDS[FIELDS][key].decode(), Raw(data))
            except UNREADABLE:
                return 0
        ordered = bytes(found)  # by name, or it would be gone before it is copied
        return put_slice(b, slice_of(ordered)) + 1


cdef int put_field(Buffer *b, Event *e, int key, uint8_t absent) except -1:
    """A field that is text, or ``absent``: 1, or 0 where it is something else."""
    cdef Cursor c
    cdef Slice text
    if not e.told >> key & 1:
        return put_byte(b, absent) + 1
    c = cursor_over(e.values[key])
    return read_text(&c, &text) and put_text(b, text) + 1
