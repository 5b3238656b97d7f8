// The machine instructions the kernels are made of, one function each.
// tests/emulator defines the same functions for the host and runs the kernels' own source there.

#pragma once

#include "random.cuh"

#ifdef COTENANT_EMULATOR
#include "emulator.h"
#else

// ---- 16-bit floats -------------------------------------------------------------------------------------------------

__device__ __forceinline__ u16 to_f16(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float from_f16(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// ---- memory --------------------------------------------------------------------------------------------------------

// Weights are read once a token: they must not push the vectors out of the L1 cache.
__device__ __forceinline__ uint4 load_streaming(const uint4* address) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}

__device__ __forceinline__ uint4 load_cached(const uint4* address) { return __ldg(address); }

// Where the launch's dynamic shared memory begins.
__device__ __forceinline__ u32 dynamic_shared() {
    extern __shared__ __align__(128) u8 memory[];
    return static_cast<u32>(__cvta_generic_to_shared(memory));
}

// Reads four 8 x 8 matrices of 16-bit elements: lane 8*i + r names row r of matrix i, and receives of each matrix the
// elements 2*(lane % 4) and the next of row lane / 4.
__device__ __forceinline__ void load_matrices(u32 (&out)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}

#if __CUDA_ARCH__ >= 800

__device__ __forceinline__ u16 to_bf16(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Copies 16 bytes to shared memory behind the L1 cache's back; done once its group has been waited for.
__device__ __forceinline__ void copy_async(u32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING groups of this thread's copies are under way.
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// accumulator[16 x 8] += left[16 x 16] * right[16 x 8] in bf16, sums in fp32.
__device__ __forceinline__ void multiply_bf16(float (&accumulator)[4], const u32 (&left)[4], u32 right_low,
                                              u32 right_high) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_low), "r"(right_high));
}

#endif

// accumulator[16 x 8] += left[16 x 8] * right[8 x 8] in fp16, sums in fp32.
__device__ __forceinline__ void multiply_f16(float (&accumulator)[4], u32 left_low, u32 left_high, u32 right) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
                 : "r"(left_low), "r"(left_high), "r"(right));
}

#endif
