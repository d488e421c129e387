#include "core/loader.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>

namespace spindlekv {
namespace {

constexpr const char* kOp = "open_device";
constexpr const char* kDirectoryVariable = "SPINDLEKV_BACKEND_DIR";

#if defined(__APPLE__)
constexpr const char* kLibrarySuffix = ".dylib";
#else
constexpr const char* kLibrarySuffix = ".so";
#endif

// Opened libraries by path. Entries are added and never removed.
struct OpenBackends {
  std::mutex mutex;
  std::map<std::string, const SkvBackend*> by_path;
};

OpenBackends& open_backends() {
  static OpenBackends* backends =
      new OpenBackends;  // lives as long as the process, as the libraries do
  return *backends;
}

Status no_binary(std::string text, std::string* detail) {
  *detail = std::move(text);
  return error_status(SKV_NO_BINARY, kOp, "%s", detail->c_str());
}

std::string library_path(const std::string& name, const std::string& addon_directory) {
  const char* override_directory = std::getenv(kDirectoryVariable);
  const bool is_overridden = override_directory != nullptr && override_directory[0] != '\0';
  const std::filesystem::path directory = is_overridden ? override_directory : addon_directory;
  return (directory / ("libspindlekv_" + name + kLibrarySuffix)).string();
}

Status check_table(const SkvBackend* table, const std::string& name, const std::string& path,
                   std::string* detail) {
  if (table == nullptr) {
    return no_binary("expected a function table for backend, got NULL from " + path, detail);
  }
  if (table->abi_version != SKV_ABI_VERSION || table->struct_bytes != sizeof(SkvBackend)) {
    return no_binary("expected ABI " + std::to_string(SKV_ABI_VERSION) + " with a table of " +
                         std::to_string(sizeof(SkvBackend)) + " bytes for backend, got ABI " +
                         std::to_string(table->abi_version) + " with " +
                         std::to_string(table->struct_bytes) + " bytes from " + path +
                         "; the addon and its backends come from different builds: build or "
                         "install both again",
                     detail);
  }
  if (table->name == nullptr || name != table->name) {
    return no_binary("expected backend \"" + name + "\" for library, got \"" +
                         (table->name == nullptr ? "" : table->name) + "\" from " + path,
                     detail);
  }
  return ok_status();
}

}  // namespace

Status load_backend(const std::string& name, const std::string& addon_directory,
                    const SkvBackend** backend, std::string* detail) {
  const std::string path = library_path(name, addon_directory);
  OpenBackends& open = open_backends();
  const std::lock_guard<std::mutex> lock(open.mutex);
  const auto known = open.by_path.find(path);
  if (known != open.by_path.end()) {
    *backend = known->second;
    return ok_status();
  }

  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return no_binary("expected a library for backend \"" + name + "\", got no file at " + path,
                     detail);
  }
  // RTLD_LOCAL: the backends define the same names and must not see one another.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return no_binary("expected a loadable library for backend \"" + name +
                         "\", got: " + (reason == nullptr ? "no reason" : reason),
                     detail);
  }
  void* symbol = dlsym(library, SKV_BACKEND_SYMBOL);
  if (symbol == nullptr) {
    dlclose(library);
    return no_binary("expected symbol " SKV_BACKEND_SYMBOL " for backend, got none in " + path,
                     detail);
  }
  SkvBackendEntry entry = nullptr;
  static_assert(sizeof(entry) == sizeof(symbol));
  std::memcpy(&entry, &symbol, sizeof(entry));
  const SkvBackend* table = entry();
  const Status status = check_table(table, name, path, detail);
  if (!is_ok(status)) {
    dlclose(library);
    return status;
  }
  open.by_path.emplace(path, table);
  *backend = table;
  return ok_status();
}

}  // namespace spindlekv
