// Random choice of a token, as `Sampling::choose` does it. Tokens are ranked by their logit, the
// lower token first among equals. All filters keep a number of the first in this order; so does the
// draw: it takes the first at which the sum of weights exceeds a random share of their total. The
// kernel never sorts. It looks for such a place digit by digit of the rank, with a histogram of
// what has the digits found so far.
//
// Weights are integers: sums do not depend on the order in which threads add to them.

constexpr int DIGIT = 8;
constexpr int BINS = 1 << DIGIT;
constexpr float ONE = 1099511627776.0f; // weight of the likeliest token: 2^40
typedef unsigned long long u64;

struct Choice {
    const float* logits; // [vocab]
    const unsigned char* seen; // [vocab], or null
    int vocab;
    float penalty, temperature, min_weight;
    float top; // the largest logit
    u64 last; // rank of the last token that is kept

    __device__ float logit(int i) const {
        float x = logits[i];
        if (seen && seen[i]) x = x > 0.0f ? x / penalty : x * penalty;
        return x;
    }

    __device__ u64 weight(float logit) const {
        float share = expf((logit - top) / temperature);
        return share >= min_weight ? (u64)(share * ONE) : 0;
    }
};

// Calls `use` for all tokens that are kept with their logit and rank. Logits are fetched several at
// a time: waiting for one after the other would take most of the time.
template <typename Use>
__device__ __forceinline__ void for_kept(const Choice& c, Use use) {
    constexpr int AT_ONCE = 8;
    for (int first = threadIdx.x; first < c.vocab; first += AT_ONCE * blockDim.x) {
        float logits[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = first + j * blockDim.x;
            logits[j] = i < c.vocab ? c.logit(i) : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            int i = first + j * blockDim.x;
            u64 rank = rank_of(logits[j], i);
            if (i < c.vocab && rank >= c.last) use(logits[j], rank);
        }
    }
}

// Adds up over the block, for all threads.
__device__ u64 block_total(u64 x) {
    __shared__ u64 sums[32];
    __syncthreads(); // the last sum was read
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    u64 total = 0;
    for (int w = 0; w < blockDim.x / 32; w++) total += sums[w];
    return total;
}

// The weight of all tokens that are kept.
__device__ u64 total_weight(const Choice& c) {
    u64 sum = 0;
    for_kept(c, [&](float logit, u64) { sum += c.weight(logit); });
    return block_total(sum);
}

// The rank of the first token at which the sum of weights (or the number of tokens) is greater than
// `target`, which is less than that of all.
__device__ u64 place_of(const Choice& c, u64 target, bool count) {
    __shared__ u64 sums[BINS];
    __shared__ u32 numbers[BINS];
    __shared__ u64 found, left, whole;
    __shared__ bool alone;
    u64 known = 0; // digits found so far, in their place
    for (int shift = 64 - DIGIT; shift >= 0; shift -= DIGIT) {
        for (int b = threadIdx.x; b < BINS; b += blockDim.x) sums[b] = numbers[b] = 0;
        __syncthreads();
        // Neighbours often have the same digit: they are added together first.
        int held = 0;
        u64 sum = 0;
        u32 number = 0;
        auto flush = [&]() {
            if (number == 0) return;
            atomicAdd(sums + held, sum);
            atomicAdd(numbers + held, number);
        };
        for_kept(c, [&](float logit, u64 rank) {
            if (shift + DIGIT < 64 && (rank ^ known) >> (shift + DIGIT)) return;
            int digit = (int)(rank >> shift & (BINS - 1));
            if (digit != held) {
                flush();
                held = digit, sum = 0, number = 0;
            }
            sum += count ? 1 : c.weight(logit);
            number++;
        });
        flush();
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = BINS - 1;
            while (digit > 0 && target >= sums[digit]) target -= sums[digit--];
            found = known | (u64)digit << shift;
            left = target;
            alone = numbers[digit] == 1;
        }
        __syncthreads();
        known = found;
        target = left;
        if (alone) {
            // No other has these digits: the others are its own.
            for_kept(c, [&](float, u64 rank) {
                if ((rank ^ known) >> shift == 0) whole = rank;
            });
            __syncthreads();
            return whole;
        }
    }
    return known;
}

// result [rows, 2]: the token chosen by a row's logits, which its `seen` tokens (if not null) have
// penalized; 1 if all logits are finite, else 0. A temperature of 0 takes the first in order; top_k
// of 0 and top_p of 1 keep all. Grid: rows; blocks of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024, 1)
    sample(const __grid_constant__ Rows rows, u32* result) {
    const Row row = rows.row[blockIdx.x];
    const int vocab = row.vocab;
    Choice c = {row.logits, row.seen, vocab, row.penalty, row.temperature, 0.0f, 0.0f, 0};
    u64 best = 0;
    bool all_finite = true;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        all_finite &= isfinite(row.logits[i]);
        best = better(best, rank_of(c.logit(i), i));
    }
    best = block_best(best);
    all_finite = __syncthreads_and(all_finite);
    if (all_finite && row.temperature > 0.0f) {
        c.top = c.logit(~(u32)best);
        if (row.top_k > 0 && row.top_k < vocab) c.last = place_of(c, row.top_k - 1, true);
        if (row.top_p < 1.0f) {
            u64 target = (u64)((double)total_weight(c) * row.top_p);
            c.last = place_of(c, target > 0 ? target - 1 : 0, false);
        }
        c.min_weight = row.min_p;
        best = place_of(c, __umul64hi(row.uniform << 11, total_weight(c)), false);
    }
    if (threadIdx.x == 0) {
        u32 token = ~(u32)best;
        result[2 * blockIdx.x] = token;
        result[2 * blockIdx.x + 1] = all_finite;
        if (row.seen && all_finite) row.seen[token] = 1;
    }
}
