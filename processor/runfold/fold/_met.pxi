# Which runs a fold has met: a Bloom filter over the hashes that their keys have as keys of a dictionary anyway.

from cpython.mem cimport PyMem_Calloc

cdef enum:
    BITS_A_RECORD = 4
    PROBES = 3

cdef uint64_t MOST_BITS = <uint64_t> 1 << 29


cdef class Met:
    """See runfold.fold.short_cut.Met."""

    cdef uint64_t *words
    cdef uint64_t mask

    def __cinit__(self, int64_t records):
        cdef uint64_t bits = 1 << 16
        while bits < <uint64_t> records * BITS_A_RECORD and bits < MOST_BITS:
            bits *= 2
        self.mask = bits - 1
        self.words = <uint64_t *> PyMem_Calloc(bits // 64, 8)
        if self.words == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.words)

    def before(self, list keys):
        cdef uint64_t hashed, bit
        cdef bint known
        cdef int probe
        cdef list met = []
        for key in keys:
            hashed = <uint64_t> <int64_t> hash(key)
            known = True
            for probe in range(PROBES):
                bit = hashed & self.mask
                known = known and self.words[bit >> 6] >> (bit & 63) & 1
                self.words[bit >> 6] |= <uint64_t> 1 << (bit & 63)
                hashed = hashed >> 21 | hashed << 43
            if known:
                met.append(key)
        return met
