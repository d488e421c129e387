// Finds and opens the backend libraries libspindlekv_{cpu,cuda,simt}.
//
// They lie beside the addon, or where SPINDLEKV_BACKEND_DIR says (used by tests). A library is
// opened once per process and never closed: its function table is constant data and may be used
// from any thread.
#pragma once

#include <string>

#include "core/backend.h"
#include "core/status.h"

namespace spindlekv {

// name: "cpu", "cuda" or "simt". On failure *detail says in full what was tried and what to do,
// without the length limit of a Status message.
Status load_backend(const std::string& name, const std::string& addon_directory,
                    const SkvBackend** backend, std::string* detail);

}  // namespace spindlekv
