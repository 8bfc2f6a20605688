// Tables that the host writes without waiting: they travel as arguments, so a captured launch keeps
// them.

struct Words {
    u32 word[960];
};

// to = the first `count` words. Grid: any blocks of threads, one for each word at least.
extern "C" __global__ void put(u32* to, const __grid_constant__ Words words, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = words.word[i];
}
