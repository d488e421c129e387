/* The table that a backend library (libspindlekv_cpu, _cuda, _simt) exports through
 * spindlekv_backend(). Plain C. */
#ifndef SPINDLEKV_CORE_BACKEND_H_
#define SPINDLEKV_CORE_BACKEND_H_

#include "ops.h"
#include "types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SKV_ABI_VERSION 5u

/* An open device of a backend: opaque to everybody else. */
typedef struct SkvDevice SkvDevice;

typedef struct SkvDeviceInfo {
  char name[128];       /* "Intel(R) Xeon(R) ...", "NVIDIA H100 ...", "SIMT host" */
  char detail[128];     /* SIMD path and threads; compute capability and driver */
  int64_t memory_total; /* bytes; 0 when unknown */
  int64_t memory_free;
  int32_t threads; /* CPU threads; SM count on CUDA */
  int32_t reserved;
} SkvDeviceInfo;

typedef enum SkvCopyKind {
  SKV_COPY_TO_DEVICE = 0,
  SKV_COPY_TO_HOST = 1,
  SKV_COPY_ON_DEVICE = 2
} SkvCopyKind;

typedef struct SkvBackend {
  uint32_t abi_version;  /* SKV_ABI_VERSION */
  uint32_t struct_bytes; /* sizeof(SkvBackend) */
  const char* name;      /* "cpu", "cuda", "simt" */

  /* Number of usable devices; an error says why there is none (no driver, too old a driver ...). */
  SkvStatus (*device_count)(int32_t* count);
  /* threads: CPU worker threads, 0 = one per core; ignored elsewhere. */
  SkvStatus (*open)(int32_t ordinal, int32_t threads, SkvDevice** device);
  void (*close)(SkvDevice* device);
  SkvStatus (*describe)(SkvDevice* device, SkvDeviceInfo* info);

  /* Device memory, 256-byte aligned. bytes = 0 gives NULL. */
  SkvStatus (*allocate)(SkvDevice* device, size_t bytes, void** memory);
  void (*release)(SkvDevice* device, void* memory);
  /* Ordered on the stream. Host memory of a copy may be reused when the call returns (TO_DEVICE) or
   * after synchronize (TO_HOST). */
  SkvStatus (*copy)(SkvDevice* device, void* dst, const void* src, size_t bytes, int32_t kind,
                    void* stream);
  SkvStatus (*fill)(SkvDevice* device, void* dst, int32_t byte_value, size_t bytes, void* stream);
  SkvStatus (*create_stream)(SkvDevice* device, void** stream);
  void (*destroy_stream)(SkvDevice* device, void* stream);
  SkvStatus (*synchronize)(SkvDevice* device, void* stream);

  /* 1 if the op runs for this K/V dtype and head dim (ops without head_dim: pass 0), else 0. */
  int32_t (*supports)(SkvDevice* device, int32_t op, int32_t dtype, int32_t head_dim);
  /* params points to the op's parameter struct. */
  SkvStatus (*workspace_bytes)(SkvDevice* device, int32_t op, const void* params, size_t* bytes);

  /* Graphs: what a stream would do, kept and launched as one. All four are NULL where a backend has
   * none. Between begin and end, ops that this thread enqueues on `stream` (one of create_stream,
   * never NULL) are kept and not run; their host arrays are copied. Their device pointers and their
   * workspace must stay valid as long as the graph. capture_end always ends the capture; graph =
   * NULL abandons it. A graph is launched by one thread at a time and released once it has run. */
  SkvStatus (*capture_begin)(SkvDevice* device, void* stream);
  SkvStatus (*capture_end)(SkvDevice* device, void* stream, void** graph);
  SkvStatus (*graph_launch)(SkvDevice* device, void* graph, void* stream);
  void (*graph_release)(SkvDevice* device, void* graph);

#define SKV_OP_MEMBER(name, Stem) \
  SkvStatus (*name)(SkvDevice * device, const SkvExec* exec, const Skv##Stem##Params* params);
  SKV_OPS(SKV_OP_MEMBER)
#undef SKV_OP_MEMBER
} SkvBackend;

/* The one symbol a backend library exports. */
typedef const SkvBackend* (*SkvBackendEntry)(void);
#define SKV_BACKEND_SYMBOL "spindlekv_backend"

#ifdef __cplusplus
}
#endif

#endif /* SPINDLEKV_CORE_BACKEND_H_ */
