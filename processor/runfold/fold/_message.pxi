# MessagePack as the short cut needs it. Reading goes by a cursor that never passes its end: a function that returns False
# has found what is out of the ordinary, and the caller gives up. Texts are read only in the shortest form there is, the one
# that msgspec writes, so that they can be copied; whole numbers in any, because they are written anew.

from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    PyObject *PyUnicode_DecodeUTF8(const char *at, Py_ssize_t size, const char *errors)
    void Py_DECREF(PyObject *of)

cdef enum:
    NIL = 0xC0
    FALSE = 0xC2
    TRUE = 0xC3
    FEW = 16  # more entries no map or array of ours has: their header is one byte

cdef int64_t MOST = <int64_t> 1 << 53


cdef struct Slice:
    const uint8_t *at
    Py_ssize_t size


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end


cdef struct Buffer:
    uint8_t *at
    Py_ssize_t size
    Py_ssize_t room


cdef inline Slice slice_of(bytes data):
    return Slice(<const uint8_t *> <const char *> data, len(data))


cdef inline bint equal(Slice one, Slice other) noexcept:
    return one.size == other.size and (one.size == 0 or memcmp(one.at, other.at, one.size) == 0)


cdef inline Cursor cursor_over(Slice slice) noexcept:
    return Cursor(slice.at, slice.at + slice.size)


cdef inline bint take(Cursor *c, uint8_t wanted) noexcept:
    if c.at >= c.end or c.at[0] != wanted:
        return False
    c.at += 1
    return True


cdef inline bint take_first(Cursor *c, uint8_t *first) noexcept:
    if c.at >= c.end:
        return False
    first[0] = c.at[0]
    c.at += 1
    return True


cdef inline bint read_big(Cursor *c, int width, uint64_t *number) noexcept:
    """A big-endian number of ``width`` bytes."""
    if c.end - c.at < width:
        return False
    number[0] = 0
    for _ in range(width):
        number[0] = number[0] << 8 | c.at[0]
        c.at += 1
    return True


cdef bint read_unsigned(Cursor *c, uint64_t *number) noexcept:
    cdef uint8_t first
    if not take_first(c, &first):
        return False
    if first < 0x80:
        number[0] = first
        return True
    return 0xCC <= first <= 0xCF and read_big(c, 1 << (first - 0xCC), number)


cdef bint read_int(Cursor *c, int64_t *number) noexcept:
    """A whole number between -2**53 and 2**53."""
    cdef uint8_t first
    cdef uint64_t wide = 0
    cdef int unused
    if c.at >= c.end:
        return False
    first = c.at[0]
    if first >= 0xE0:
        number[0] = <int8_t> first
        c.at += 1
        return True
    if 0xD0 <= first <= 0xD3:
        c.at += 1
        if not read_big(c, 1 << (first - 0xD0), &wide):
            return False
        unused = 64 - (8 << (first - 0xD0))
        number[0] = <int64_t> (wide << unused) >> unused
        return -MOST <= number[0] <= MOST
    if not read_unsigned(c, &wide) or wide > <uint64_t> MOST:
        return False
    number[0] = <int64_t> wide
    return True


cdef bint is_text(Slice text) noexcept:
    cdef PyObject *decoded
    cdef Py_ssize_t place = 0
    cdef uint64_t eight
    while place + 8 <= text.size:
        memcpy(&eight, text.at + place, 8)
        if eight & <uint64_t> 0x8080808080808080:
            break
        place += 8
    while place < text.size and text.at[place] < 0x80:
        place += 1
    if place == text.size:
        return True
    decoded = PyUnicode_DecodeUTF8(<const char *> text.at, text.size, NULL)
    if decoded == NULL:
        PyErr_Clear()
        return False
    Py_DECREF(decoded)
    return True


cdef bint read_text(Cursor *c, Slice *text) noexcept:
    cdef uint8_t first
    cdef uint64_t size = 0
    if not take_first(c, &first):
        return False
    if 0xA0 <= first <= 0xBF:
        size = first & 31
    elif first == 0xD9:
        if not read_big(c, 1, &size) or size < 32:
            return False
    elif first == 0xDA:
        if not read_big(c, 2, &size) or size < 256:
            return False
    elif first != 0xDB or not read_big(c, 4, &size) or size < 65536:
        return False
    if <uint64_t> (c.end - c.at) < size:
        return False
    text.at, text.size = c.at, <Py_ssize_t> size
    c.at += size
    return is_text(text[0])


cdef bint read_bin(Cursor *c, Slice *data) noexcept:
    cdef uint8_t first
    cdef uint64_t size = 0
    if not take_first(c, &first) or not 0xC4 <= first <= 0xC6 or not read_big(c, 1 << (first - 0xC4), &size):
        return False
    if <uint64_t> (c.end - c.at) < size:
        return False
    data.at, data.size = c.at, <Py_ssize_t> size
    c.at += size
    return True


cdef bint skip(Cursor *c) noexcept:
    """Go past one value of any shape but an extension. Nothing recurses: what is nested adds to what is left."""
    cdef uint64_t left = 1, size
    cdef uint8_t first
    while left:
        if left > <uint64_t> (c.end - c.at):  # each takes a byte at least
            return False
        left -= 1
        first = c.at[0]
        c.at += 1
        size = 0
        if first < 0x80 or first >= 0xE0 or first == NIL or first == FALSE or first == TRUE:
            continue
        elif first < 0x90:
            left += 2 * (first & 15)
        elif first < 0xA0:
            left += first & 15
        elif first < 0xC0:
            size = first & 31
        elif 0xCC <= first <= 0xD3:
            size = 1 << (first & 3)
        elif first == 0xCA or first == 0xCB:
            size = 4 if first == 0xCA else 8
        elif 0xC4 <= first <= 0xC6 or 0xD9 <= first <= 0xDB:
            if not read_big(c, 1 << (first - (0xC4 if first < 0xD0 else 0xD9)), &size):
                return False
        elif first >= 0xDC:
            if not read_big(c, 4 if first & 1 else 2, &size):
                return False
            left += size if first < 0xDE else 2 * size
            continue
        else:
            return False
        if size > <uint64_t> (c.end - c.at):
            return False
        c.at += size
    return True


cdef bint read_map(Cursor *c, const Slice *names, int count, Slice *values, uint32_t *told) noexcept:
    """A map whose keys are among ``names``, each once at most: its values as they stand; the bits of ``told`` say which."""
    cdef uint8_t first
    cdef uint64_t left
    cdef Slice key
    cdef int place = 0, tried
    told[0] = 0
    if not take_first(c, &first):
        return False
    if 0x80 <= first <= 0x8F:
        left = first & 15
    elif first != 0xDE or not read_big(c, 2, &left):
        return False
    while left:
        left -= 1
        if not take_first(c, &first) or not 0xA0 <= first <= 0xBF or c.end - c.at < (first & 31):
            return False
        key.at, key.size = c.at, first & 31
        c.at += key.size
        for tried in range(count):  # most come in the order of the names, so that the first try hits
            if equal(key, names[place]):
                break
            place = place + 1 if place + 1 < count else 0
        else:
            return False
        if told[0] >> place & 1:
            return False
        values[place].at = c.at
        if not skip(c):
            return False
        values[place].size = c.at - values[place].at
        told[0] |= <uint32_t> 1 << place
        place = place + 1 if place + 1 < count else 0
    return True


cdef inline int put(Buffer *b, const void *data, Py_ssize_t size) except -1:
    cdef uint8_t *grown
    if size > b.room - b.size:
        grown = <uint8_t *> PyMem_Realloc(b.at, 2 * (b.size + size) + 256)
        if grown == NULL:
            raise MemoryError
        b.at, b.room = grown, 2 * (b.size + size) + 256
    if size:
        memcpy(b.at + b.size, data, size)
        b.size += size
    return 0


cdef inline int put_slice(Buffer *b, Slice slice) except -1:
    return put(b, slice.at, slice.size)


cdef inline int put_byte(Buffer *b, uint8_t byte) except -1:
    return put(b, &byte, 1)


cdef int put_headed(Buffer *b, uint8_t first, int width, uint64_t number) except -1:
    """A first byte, and a big-endian number of ``width`` bytes."""
    cdef uint8_t packed[9]
    cdef int place
    packed[0] = first
    for place in range(width, 0, -1):
        packed[place] = number & 0xFF
        number >>= 8
    return put(b, packed, 1 + width)


cdef int put_unsigned(Buffer *b, uint64_t number) except -1:
    if number < 0x80:
        return put_byte(b, <uint8_t> number)
    if number < 0x100:
        return put_headed(b, 0xCC, 1, number)
    if number < 0x10000:
        return put_headed(b, 0xCD, 2, number)
    if number < 0x100000000:
        return put_headed(b, 0xCE, 4, number)
    return put_headed(b, 0xCF, 8, number)


cdef int put_int(Buffer *b, int64_t number) except -1:
    if number >= 0:
        return put_unsigned(b, <uint64_t> number)
    if number >= -32:
        return put_byte(b, <uint8_t> number)
    if number >= -128:
        return put_headed(b, 0xD0, 1, <uint64_t> number)
    if number >= -32768:
        return put_headed(b, 0xD1, 2, <uint64_t> number)
    if number >= -2147483648:
        return put_headed(b, 0xD2, 4, <uint64_t> number)
    return put_headed(b, 0xD3, 8, <uint64_t> number)


cdef int put_text(Buffer *b, Slice text) except -1:
    if text.size < 32:
        put_byte(b, <uint8_t> (0xA0 | text.size))
    elif text.size < 0x100:
        put_headed(b, 0xD9, 1, text.size)
    elif text.size < 0x10000:
        put_headed(b, 0xDA, 2, text.size)
    else:
        put_headed(b, 0xDB, 4, text.size)
    return put_slice(b, text)


cdef int put_bin(Buffer *b, Slice data) except -1:
    if data.size < 0x100:
        put_headed(b, 0xC4, 1, data.size)
    elif data.size < 0x10000:
        put_headed(b, 0xC5, 2, data.size)
    else:
        put_headed(b, 0xC6, 4, data.size)
    return put_slice(b, data)
