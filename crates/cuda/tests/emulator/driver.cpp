// libcuda's symbols over the emulator, as far as this room calls them: one device of compute capability 9.0 (or
// COTENANT_EMULATED_CAPABILITY, such as 7.5) with 4 multiprocessors and 1 GiB.
//
// It keeps the driver's manners: a context must be current, a module knows only the entries of its own PTX, captured
// launches run when their graph does, a write to memory that is not allocated loses the context, and an allocation ends
// in a strip that must be untouched when it is freed.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fibers.h"
#include "kernels.h"

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    UNSUPPORTED_EXEC_AFFINITY = 224,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};

constexpr size_t TOTAL = size_t(1) << 30;
constexpr size_t STRIP = 4096;
constexpr unsigned char MARK = 0xA5;
constexpr unsigned MOST_SHARED = 227 * 1024;

using Work = std::function<Result()>;

struct Module {
    std::set<std::string> entries;
};

struct Function {
    std::string name;
    int shared = 48 * 1024;
};

struct Stream {
    std::unique_ptr<std::vector<Work>> capture;
};

struct Graph {
    std::vector<Work> work;
};

struct Device {
    bool current = false;
    Result lost = SUCCESS;
    std::map<unsigned char*, size_t> allocations;
    std::map<std::string, Function> functions;
} device;

size_t used() {
    size_t sum = 0;
    for (const auto& [address, size] : device.allocations) sum += size;
    return sum;
}

bool owned(unsigned long long address, size_t bytes) {
    const auto pointer = reinterpret_cast<unsigned char*>(address);
    for (const auto& [start, size] : device.allocations)
        if (pointer >= start && pointer + bytes <= start + size) return true;
    return false;
}

Result ready() {
    if (!device.current) return INVALID_CONTEXT;
    return device.lost;
}

// Does the work now, or when the graph runs that the stream is captured into.
Result put(Stream* stream, const Work& work) {
    if (ready() != SUCCESS) return ready();
    if (stream->capture == nullptr) return work();
    stream->capture->push_back(work);
    return SUCCESS;
}

int capability(bool major) {
    const char* text = std::getenv("COTENANT_EMULATED_CAPABILITY");
    int found[2] = {9, 0};
    if (text != nullptr) std::sscanf(text, "%d.%d", &found[0], &found[1]);
    return found[major ? 0 : 1];
}

}  // namespace

extern "C" {

Result cuInit(unsigned) { return SUCCESS; }

Result cuDriverGetVersion(int* version) {
    *version = 12020;
    return SUCCESS;
}

Result cuGetErrorName(Result code, const char** name) {
    static const std::map<int, const char*> names = {{INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
                                                     {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                     {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
                                                     {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
                                                     {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}};
    const auto found = names.find(code);
    if (found == names.end()) return INVALID_VALUE;
    *name = found->second;
    return SUCCESS;
}

Result cuGetErrorString(Result, const char** text) {
    *text = "emulated";
    return SUCCESS;
}

Result cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}

Result cuDeviceGet(int* out, int ordinal) {
    *out = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

Result cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, static_cast<size_t>(length), "Emulated GPU");
    return SUCCESS;
}

Result cuDeviceGetUuid(unsigned char* bytes, int) {
    for (unsigned char i = 0; i < 16; i++) bytes[i] = i;
    return SUCCESS;
}

Result cuDeviceGetUuid_v2(unsigned char* bytes, int ordinal) { return cuDeviceGetUuid(bytes, ordinal); }

Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 4; return SUCCESS;
        case 75: *value = capability(true); return SUCCESS;
        case 76: *value = capability(false); return SUCCESS;
        case 97: *value = MOST_SHARED; return SUCCESS;
        default: return INVALID_VALUE;
    }
}

Result cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &device;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

Result cuCtxSetCurrent(void* context) {
    device.current = context == &device;
    return SUCCESS;
}

Result cuCtxGetExecAffinity(void*, int) { return UNSUPPORTED_EXEC_AFFINITY; }

Result cuMemGetInfo_v2(size_t* free, size_t* total) {
    *free = TOTAL - used();
    *total = TOTAL;
    return ready();
}

Result cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
    if (ready() != SUCCESS) return ready();
    if (bytes > TOTAL - used()) return OUT_OF_MEMORY;
    auto* start = static_cast<unsigned char*>(std::aligned_alloc(256, (bytes + STRIP + 255) / 256 * 256));
    if (start == nullptr) return OUT_OF_MEMORY;
    std::memset(start, 0xFF, bytes);
    std::memset(start + bytes, MARK, STRIP);
    device.allocations[start] = bytes;
    *address = reinterpret_cast<unsigned long long>(start);
    return SUCCESS;
}

Result cuMemFree_v2(unsigned long long address) {
    if (ready() != SUCCESS) return ready();
    const auto found = device.allocations.find(reinterpret_cast<unsigned char*>(address));
    if (found == device.allocations.end()) return INVALID_VALUE;
    for (size_t i = 0; i < STRIP; i++)
        if (found->first[found->second + i] != MARK) {
            std::fprintf(stderr, "a kernel wrote %zu bytes past the end of a buffer\n", i);
            std::abort();
        }
    std::free(found->first);
    device.allocations.erase(found);
    return SUCCESS;
}

Result cuMemsetD8Async(unsigned long long to, unsigned char byte, size_t bytes, Stream* stream) {
    if (!owned(to, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        std::memset(reinterpret_cast<void*>(to), byte, bytes);
        return SUCCESS;
    });
}

Result cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, Stream* stream) {
    if (!owned(to, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        std::memcpy(reinterpret_cast<void*>(to), from, bytes);
        return SUCCESS;
    });
}

Result cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, Stream* stream) {
    if (!owned(from, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
        return SUCCESS;
    });
}

Result cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, Stream* stream) {
    if (!owned(to, bytes) || !owned(from, bytes)) return INVALID_VALUE;
    return put(stream, [=] {
        std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
        return SUCCESS;
    });
}

Result cuModuleLoadData(Module** module, const char* ptx) {
    if (ready() != SUCCESS) return ready();
    *module = new Module;
    const std::string text = ptx;
    const std::string marker = ".entry ";
    for (size_t at = text.find(marker); at != std::string::npos; at = text.find(marker, at + 1)) {
        const size_t start = at + marker.size();
        (*module)->entries.insert(text.substr(start, text.find('(', start) - start));
    }
    return SUCCESS;
}

Result cuModuleUnload(Module* module) {
    delete module;
    return SUCCESS;
}

Result cuModuleGetFunction(Function** function, Module* module, const char* name) {
    if (module->entries.count(name) == 0 || emulator::kernels().count(name) == 0) return NOT_FOUND;
    Function& found = device.functions[name];
    found.name = name;
    *function = &found;
    return SUCCESS;
}

Result cuFuncSetAttribute(Function* function, int attribute, int value) {
    if (attribute != 8 || value > static_cast<int>(MOST_SHARED)) return INVALID_VALUE;
    function->shared = value;
    return SUCCESS;
}

Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int threads, size_t) {
    *blocks = 2048 / threads;
    return SUCCESS;
}

Result cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared, Stream* stream, void** parameters, void**) {
    if (grid_x * grid_y * grid_z * block_x * block_y * block_z == 0 || grid_z != 1 || block_y * block_z != 1)
        return INVALID_VALUE;
    if (block_x > 1024 || static_cast<int>(shared) > function->shared) return INVALID_VALUE;
    const auto target = *static_cast<unsigned long long*>(parameters[0]);
    const emulator::Launch launch = {grid_x, grid_y, block_x, shared,
                                     emulator::kernels().at(function->name)(parameters)};
    return put(stream, [=] {
        if (owned(target, 1))
            emulator::run(launch);
        else
            device.lost = ILLEGAL_ADDRESS;
        return SUCCESS;
    });
}

Result cuStreamCreate(Stream** stream, unsigned) {
    *stream = new Stream;
    return ready();
}

Result cuStreamDestroy_v2(Stream* stream) {
    delete stream;
    return SUCCESS;
}

Result cuStreamSynchronize(Stream*) { return ready(); }

Result cuStreamBeginCapture_v2(Stream* stream, int) {
    stream->capture = std::make_unique<std::vector<Work>>();
    return SUCCESS;
}

Result cuStreamEndCapture(Stream* stream, Graph** graph) {
    *graph = new Graph{*stream->capture};
    stream->capture.reset();
    return SUCCESS;
}

Result cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    *executable = new Graph(*graph);
    return SUCCESS;
}

Result cuGraphLaunch(Graph* executable, Stream* stream) {
    for (const Work& work : executable->work)
        if (const Result result = put(stream, work); result != SUCCESS) return result;
    return SUCCESS;
}

Result cuGraphExecDestroy(Graph* executable) {
    delete executable;
    return SUCCESS;
}

Result cuGraphDestroy(Graph* graph) {
    delete graph;
    return SUCCESS;
}

}  // extern "C"
