// Greedy choice of a token, for each of several rows of logits.

// What is asked for of a row.
struct Row {
    const float* logits;  // [vocab]
    unsigned char* seen;  // [vocab], or null
    unsigned long long uniform; // below 2^53
    int vocab;
    int top_k; // 0 keeps all
    float penalty, temperature, top_p, min_p;
};

struct Rows {
    Row row[64];
};

// A number that orders as (value, then the lower index first); 0 for a value that is not a number.
__device__ unsigned long long rank_of(float value, u32 index) {
    if (isnan(value)) return 0;
    u32 bits = __float_as_uint(value + 0.0f); // -0 and 0 are equal
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (unsigned long long)bits << 32 | ~index;
}

__device__ unsigned long long better(unsigned long long a, unsigned long long b) {
    return a > b ? a : b;
}

// The best over a block of up to 1024 threads (a multiple of 32), for all of them. Once per kernel.
__device__ __forceinline__ unsigned long long block_best(unsigned long long best) {
    __shared__ unsigned long long bests[32];
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) {
        best = better(best, __shfl_xor_sync(~0u, best, lanes));
    }
    if (threadIdx.x % 32 == 0) bests[threadIdx.x / 32] = best;
    __syncthreads();
    for (int w = 0; w < blockDim.x / 32; w++) best = better(best, bests[w]);
    return best;
}

// result [rows, 2]: the index of the largest of a row's logits, the lowest of equal ones, added to
// those seen; 1 if all logits are finite, else 0. Grid: rows; blocks of up to 1024 threads, a
// multiple of 32.
extern "C" __global__ void argmax(const __grid_constant__ Rows rows, u32* result) {
    const float* logits = rows.row[blockIdx.x].logits;
    const int vocab = rows.row[blockIdx.x].vocab;
    unsigned long long best = 0;
    bool all_finite = true;
#pragma unroll 8
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float value = logits[i];
        all_finite &= isfinite(value);
        best = better(best, rank_of(value, i));
    }
    best = block_best(best);
    all_finite = __syncthreads_and(all_finite);
    if (threadIdx.x == 0) {
        u32 token = best ? ~(u32)best : 0;
        result[2 * blockIdx.x] = token;
        result[2 * blockIdx.x + 1] = all_finite;
        unsigned char* seen = rows.row[blockIdx.x].seen;
        if (seen && all_finite) seen[token] = 1;
    }
}
