// New keys and values behind those of a cache.

// keys, values [from `offset` + *advance * width on] = k, v [elements]. A null `advance` is 0; it
// lets a captured launch be replayed for later tokens of `width` elements. Grid: (blocks of 8
// elements per thread, 2): keys, then values.
extern "C" __global__ void append(const bf16* k, const bf16* v, bf16* keys, bf16* values,
                                  int elements, i64 offset, const u32* advance, int width) {
    const bf16* from = blockIdx.y ? v : k;
    bf16* to = (blockIdx.y ? values : keys) + offset + (advance ? (i64)*advance * width : 0);
    i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (first + 8 <= elements && ((i64)from | (i64)to) % 16 == 0) {
        *(uint4*)(to + first) = *(const uint4*)(from + first);
    } else {
        for (i64 i = first; i < min(first + 8, (i64)elements); i++) to[i] = from[i];
    }
}
