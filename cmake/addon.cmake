# spindlekv.node: binding/ on Node-API 9, which Node 20 and every later release provides.

# cmake-js passes the header directory; a plain `cmake --preset` finds it in node_modules.
if(CMAKE_JS_INC)
  set(skv_node_include ${CMAKE_JS_INC})
else()
  set(skv_node_include "${PROJECT_SOURCE_DIR}/node_modules/node-api-headers/include")
endif()
set(skv_addon_api "${PROJECT_SOURCE_DIR}/node_modules/node-addon-api")
if(NOT EXISTS "${skv_addon_api}/napi.h")
  message(FATAL_ERROR "spindlekv: expected node-addon-api in node_modules, found none; run `npm ci`")
endif()

add_library(spindlekv MODULE ${SKV_BINDING_SOURCES})
skv_configure(spindlekv)
skv_link_hidden(spindlekv)
set_target_properties(spindlekv PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(spindlekv SYSTEM PRIVATE ${skv_node_include} "${skv_addon_api}")
# Throwing where JavaScript may not run (a worker being terminated) must not end the process.
target_compile_definitions(spindlekv PRIVATE
  NAPI_VERSION=9
  NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS
  NODE_ADDON_API_DISABLE_DEPRECATED
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
target_link_libraries(spindlekv PRIVATE skv_core Threads::Threads ${CMAKE_DL_LIBS})
if(APPLE)
  # The Node-API symbols are those of the process that loads the addon.
  target_link_options(spindlekv PRIVATE -undefined dynamic_lookup)
endif()
