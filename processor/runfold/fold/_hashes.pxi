# The two hashes of a mark, XXH3 of 64 bits and XXH32, for the lengths that come with every event: called in the library they
# cost an object for what is hashed, one for the hash, and the call. Other lengths are the library's.

cdef extern from *:
    """
    #include <stdint.h>
    #include <stddef.h>

    static const uint8_t xxh3_secret[128] = {
        0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
        0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
        0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
        0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
        0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x53, 0x2e, 0xa3, 0x71,
        0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8,
        0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a,
        0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea,
    };

    static uint32_t little32(const uint8_t *at) {
        return (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
    }

    static uint64_t little64(const uint8_t *at) {
        return (uint64_t) little32(at) | (uint64_t) little32(at + 4) << 32;
    }

    static uint64_t folded_product(uint64_t one, uint64_t other) {
    #ifdef __SIZEOF_INT128__
        unsigned __int128 product = (unsigned __int128) one * other;
        return (uint64_t) product ^ (uint64_t) (product >> 64);
    #else
        uint64_t low = (one & 0xFFFFFFFF) * (other & 0xFFFFFFFF), high = (one >> 32) * (other >> 32);
        uint64_t left = (one >> 32) * (other & 0xFFFFFFFF), right = (one & 0xFFFFFFFF) * (other >> 32);
        uint64_t cross = (low >> 32) + (left & 0xFFFFFFFF) + right;
        return ((cross << 32) | (low & 0xFFFFFFFF)) ^ ((left >> 32) + (cross >> 32) + high);
    #endif
    }

    static uint64_t mixed(const uint8_t *at, const uint8_t *secret) {
        return folded_product(little64(at) ^ little64(secret), little64(at + 8) ^ little64(secret + 8));
    }

    static uint64_t xxh3_of_17_to_128(const uint8_t *at, size_t size) {
        uint64_t hash = size * 0x9E3779B185EBCA87ULL;
        for (size_t pair = (size - 1) / 32 + 1; pair-- > 0;) {
            hash += mixed(at + 16 * pair, xxh3_secret + 32 * pair);
            hash += mixed(at + size - 16 * (pair + 1), xxh3_secret + 32 * pair + 16);
        }
        hash ^= hash >> 37;
        hash *= 0x165667919E3779F9ULL;
        return hash ^ hash >> 32;
    }

    static uint32_t turned(uint32_t number, int by) {
        return number << by | number >> (32 - by);
    }

    static uint32_t xxh32(const uint8_t *at, size_t size, uint32_t seed) {
        const uint32_t one = 0x9E3779B1U, two = 0x85EBCA77U, three = 0xC2B2AE3DU, four = 0x27D4EB2FU, five = 0x165667B1U;
        const uint8_t *end = at + size;
        uint32_t hash = seed + five, lanes[4] = {seed + one + two, seed + two, seed, seed - one};
        if (size >= 16) {
            for (; end - at >= 16; at += 16)
                for (int lane = 0; lane < 4; lane++)
                    lanes[lane] = turned(lanes[lane] + little32(at + 4 * lane) * two, 13) * one;
            hash = turned(lanes[0], 1) + turned(lanes[1], 7) + turned(lanes[2], 12) + turned(lanes[3], 18);
        }
        hash += (uint32_t) size;
        for (; end - at >= 4; at += 4)
            hash = turned(hash + little32(at) * three, 17) * four;
        for (; at < end; at++)
            hash = turned(hash + *at * five, 11) * one;
        hash = (hash ^ hash >> 15) * two;
        hash = (hash ^ hash >> 13) * three;
        return hash ^ hash >> 16;
    }
    """
    uint64_t xxh3_of_17_to_128(const uint8_t *at, size_t size) noexcept
    uint32_t xxh32(const uint8_t *at, size_t size, uint32_t seed) noexcept


cdef inline uint64_t xxh3(Slice data) except? 0:
    if 17 <= data.size <= 128:
        return xxh3_of_17_to_128(data.at, data.size)
    return xxh3_64_intdigest(PyBytes_FromStringAndSize(<const char *> data.at, data.size))
