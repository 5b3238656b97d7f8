#include "fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdlib>
#include <random>

#include "host.h"

#include "../../kernels/intrinsic.cuh"

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

unsigned char shared[SHARED_BYTES];

namespace {

constexpr size_t STACK_BYTES = 64 * 1024;
constexpr unsigned WARP = 32;

struct Copy {
    unsigned to;
    const void* from;
};

struct Fiber {
    jmp_buf place;
    std::vector<char> stack = std::vector<char>(STACK_BYTES);
    bool done = false;
    // What it waits for: the place of a barrier and the round at which it came.
    const unsigned* round = nullptr;
    unsigned came = 0;
    // Copies not yet in a group, and groups not yet waited for.
    std::vector<Copy> open;
    std::vector<std::vector<Copy>> groups;
};

struct Barrier {
    unsigned round = 0;
    unsigned arrived = 0;
};

struct Warp {
    Barrier barrier;
    // Two sets by turns: a lane may write its next words while another still reads the last.
    Words words[2][WARP];
};

jmp_buf scheduler;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
Barrier block;
const std::function<void()>* body;
unsigned current;
std::mt19937 order(20240229);

// Unlike swapcontext, these jumps make no system call.
void yield() {
    if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

void resume() {
    if (_setjmp(scheduler) == 0) _longjmp(fibers[current].place, 1);
}

void wait(Barrier& barrier, unsigned expected) {
    const unsigned round = barrier.round;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        barrier.round++;
        return;
    }
    fibers[current].round = &barrier.round;
    fibers[current].came = round;
    yield();
}

// A fiber's whole life: it waits for a block, runs its thread of it, and waits for the next.
void live() {
    for (;;) {
        yield();
        (*body)();
        fibers[current].done = true;
    }
}

// Makes fibers up to `count`; their stacks stay where they are from block to block.
void prepare(unsigned count) {
    fibers.reserve(1024);
    while (fibers.size() < count) {
        current = static_cast<unsigned>(fibers.size());
        fibers.emplace_back();
        ucontext_t start, back;
        getcontext(&start);
        start.uc_stack.ss_sp = fibers[current].stack.data();
        start.uc_stack.ss_size = STACK_BYTES;
        start.uc_link = nullptr;
        makecontext(&start, live, 0);
        if (_setjmp(scheduler) == 0) swapcontext(&back, &start);
    }
}

bool runnable(Fiber& fiber) {
    if (fiber.done) return false;
    if (fiber.round != nullptr && *fiber.round == fiber.came) return false;
    fiber.round = nullptr;
    return true;
}

void run_block(unsigned threads, unsigned shared_bytes) {
    prepare(threads);
    warps.assign((threads + WARP - 1) / WARP, Warp());
    block = Barrier();
    // Not a number in every format: what is read before it is written shows.
    std::memset(shared, 0xFF, shared_bytes);
    for (unsigned index = 0; index < threads; index++) {
        Fiber& fiber = fibers[index];
        fiber.done = false;
        fiber.round = nullptr;
        fiber.open.clear();
        fiber.groups.clear();
    }
    std::vector<unsigned> turn(threads);
    for (unsigned i = 0; i < threads; i++) turn[i] = i;
    std::shuffle(turn.begin(), turn.end(), order);
    for (unsigned left = threads; left > 0;) {
        bool moved = false;
        for (const unsigned index : turn) {
            if (!runnable(fibers[index])) continue;
            moved = true;
            current = index;
            threadIdx = {index, 0, 0};
            resume();
            left -= fibers[index].done;
        }
        // Threads that wait for others that have ended: on a GPU they would wait for ever.
        if (!moved && left > 0) std::abort();
    }
}

}  // namespace

void block_barrier() { wait(block, blockDim.x); }

const Words* exchange(const Words& own) {
    Warp& warp = warps[threadIdx.x / WARP];
    const unsigned set = warp.barrier.round % 2;
    std::memcpy(warp.words[set][threadIdx.x % WARP], own, sizeof own);
    wait(warp.barrier, min(WARP, blockDim.x));
    return warp.words[set];
}

void start_copy(unsigned to, const void* from) { fibers[current].open.push_back({to, from}); }

void commit_copies() {
    fibers[current].groups.push_back(fibers[current].open);
    fibers[current].open.clear();
}

void wait_copies(unsigned pending) {
    auto& groups = fibers[current].groups;
    while (groups.size() > pending) {
        for (const Copy& copy : groups.front()) std::memcpy(shared + copy.to, copy.from, 16);
        groups.erase(groups.begin());
    }
}

void run(const Launch& launch) {
    body = &launch.kernel;
    gridDim = {launch.grid_x, launch.grid_y, 1};
    blockDim = {launch.threads, 1, 1};
    for (unsigned y = 0; y < launch.grid_y; y++)
        for (unsigned x = 0; x < launch.grid_x; x++) {
            blockIdx = {x, y, 0};
            run_block(launch.threads, launch.shared);
        }
}

}  // namespace emulator
