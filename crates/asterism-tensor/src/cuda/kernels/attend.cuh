// What attention kernels share: keys in segments, and the one rule of what is visible: a query at
// position p sees every key whose position is at most p.

#ifdef FP8
typedef unsigned char Cached; // e4m3, see fp8.cu
#else
typedef bf16 Cached;
#endif

// Keys and values of tokens at consecutive positions, [tokens, kv_heads, head_dim] each.
struct Segment {
    const Cached* keys;
    const Cached* values;
    const float* key_scales; // [tokens, kv_heads]; null but for FP8
    const float* value_scales;
    int tokens;
    int start; // position of the first token
};

struct Segments {
    Segment segment[8];
    int count;
};

// The segments of a launch that is replayed for a later token: the last is longer than it says.
struct Grown {
    const Segments& given;
    const int longer; // tokens
    const int count;

    // A null `advance` is 0.
    __device__ __forceinline__ Grown(const Segments& given, const u32* advance)
        : given(given), longer(advance ? (int)*advance : 0), count(given.count) {}

    __device__ __forceinline__ Segment operator[](int s) const {
        Segment segment = given.segment[s];
        if (s == count - 1) segment.tokens += longer;
        return segment;
    }
};

// How many tokens of the segment a query at `position` sees.
__device__ __forceinline__ int visible(const Segment& segment, int position) {
    return max(0, min(segment.tokens, position + 1 - segment.start));
}
