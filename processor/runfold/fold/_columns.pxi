# Records in columns, as Arrow keeps them in memory: what an archive gives. The short cut reads them where they lie; whoever
# asks for a record gets one made for him, so that everybody else need not know.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t

cdef enum:
    OFFSETS = 0
    STAMPS = 1
    NAMES = 2
    ENDS = 3
    VALUES = 4
    COLUMNS = 5


cdef class Columns:
    """See runfold.fold.short_cut.in_columns. ``first`` and ``last`` bound what of the columns is meant."""

    cdef Py_buffer columns[COLUMNS]
    cdef int taken  # of the columns, to be let go of
    cdef tuple sources
    cdef list names
    cdef Py_ssize_t first, last

    def __cinit__(self, tuple sources not None, list names not None, Py_ssize_t first, Py_ssize_t last):
        self.sources, self.names, self.first, self.last = sources, names, first, last
        for source in sources:
            PyObject_GetBuffer(source, &self.columns[self.taken], PyBUF_SIMPLE)
            self.taken += 1
        self.check()

    def __dealloc__(self):
        cdef int place
        for place in range(self.taken):
            PyBuffer_Release(&self.columns[place])

    cdef int check(self) except -1:
        """What is read by place lies within its buffer. Raises ValueError."""
        cdef Py_ssize_t place
        cdef const int32_t *ends = self.ends()
        cdef const int32_t *keys = self.keys()
        if not (
            self.taken == COLUMNS
            and 0 <= self.first <= self.last
            and self.last <= self.columns[OFFSETS].len // 8
            and self.last <= self.columns[STAMPS].len // 8
            and self.last <= self.columns[NAMES].len // 4
            and self.last < self.columns[ENDS].len // 4
            and ends[self.first] >= 0
            and ends[self.last] <= self.columns[VALUES].len
        ):
            raise ValueError("columns of different lengths")
        for place in range(self.first, self.last):
            if not (ends[place] <= ends[place + 1] and 0 <= keys[place] < len(self.names)):
                raise ValueError("a column refers to what is not there")
        return 0

    @property
    def bytes_of_values(self):
        return self.ends()[self.last] - self.ends()[self.first]

    def __len__(self):
        return self.last - self.first

    def __getitem__(self, wanted):
        cdef Py_ssize_t place, first, last, step
        if isinstance(wanted, slice):
            first, last, step = wanted.indices(self.last - self.first)
            if step == 1:
                return Columns(self.sources, self.names, self.first + first, self.first + max(first, last))
            return [self.record(self.first + place) for place in range(first, last, step)]
        place = wanted
        if place < 0:
            place += self.last - self.first
        if not 0 <= place < self.last - self.first:
            raise IndexError("no record there")
        return self.record(self.first + place)

    cdef inline const int64_t *offsets(self) noexcept:
        return <const int64_t *> self.columns[OFFSETS].buf

    cdef inline const int64_t *stamps(self) noexcept:
        return <const int64_t *> self.columns[STAMPS].buf

    cdef inline const int32_t *keys(self) noexcept:
        return <const int32_t *> self.columns[NAMES].buf

    cdef inline const int32_t *ends(self) noexcept:
        return <const int32_t *> self.columns[ENDS].buf

    cdef inline Slice value(self, Py_ssize_t place) noexcept:
        cdef const int32_t *ends = self.ends()
        return Slice(<const uint8_t *> self.columns[VALUES].buf + ends[place], ends[place + 1] - ends[place])

    cdef object record(self, Py_ssize_t place):
        cdef Slice value = self.value(place)
        return _new(
            StoredRecord,
            (
                self.offsets()[place],
                self.stamps()[place],
                self.names[self.keys()[place]],
                PyBytes_FromStringAndSize(<const char *> value.at, value.size),
                (),
            ),
        )

    cdef dict by_run(self):
        """The records by their keys, each key where it comes first: one walk to count, one to put each in its place."""
        cdef Py_ssize_t place, count = len(self.names), begin = 0
        cdef const int32_t *keys = self.keys()
        cdef bytearray counted = bytearray(4 * count)
        cdef bytearray sorted_ = bytearray(4 * (self.last - self.first))
        cdef int32_t *ends = <int32_t *> <char *> counted
        cdef int32_t *places = <int32_t *> <char *> sorted_
        cdef list met = []
        cdef dict runs = {}
        cdef Rows rows
        for place in range(self.first, self.last):
            if not ends[keys[place]]:
                met.append(keys[place])
            ends[keys[place]] += 1
        for name in met:
            rows = Rows.__new__(Rows)
            rows.of, rows.kept, rows.places, rows.count = self, sorted_, places + begin, ends[<Py_ssize_t> name]
            runs[self.names[name]] = rows
            ends[<Py_ssize_t> name] = begin
            begin += rows.count
        for place in range(self.first, self.last):
            places[ends[keys[place]]] = place
            ends[keys[place]] += 1
        return runs if len(runs) == len(met) else by_key(self)  # else a key stands there twice


cdef class Rows:
    """Those records of columns that are at some ``places``, in their order: a run's."""

    cdef Columns of
    cdef bytearray kept  # what places points into
    cdef const int32_t *places
    cdef Py_ssize_t count

    def __len__(self):
        return self.count

    def __getitem__(self, wanted):
        cdef Py_ssize_t place
        if isinstance(wanted, slice):
            return [self.of.record(self.places[place]) for place in range(*wanted.indices(self.count))]
        return self.of.record(self.places[range(self.count)[wanted]])


cdef dict by_key(records):
    """Any records by their keys, each key's in their order."""
    cdef dict runs = {}
    for record in records:
        key = key_of(record)
        of_run = runs.get(key)
        if of_run is None:
            runs[key] = [record]
        else:
            (<list> of_run).append(record)
    return runs
