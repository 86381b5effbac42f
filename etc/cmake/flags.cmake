# Warnings, hardening and sanitizers, in one interface target.
add_library(tg_flags INTERFACE)
target_compile_options(tg_flags INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wpointer-arith
  -Wwrite-strings -fno-strict-overflow -fno-common "-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.")
if(TG_FAILPOINTS)
  target_compile_definitions(tg_flags INTERFACE TG_FAILPOINTS=1)
endif()
if(TG_WERROR)
  target_compile_options(tg_flags INTERFACE -Werror)
endif()
if(TG_SANITIZE)
  target_compile_options(tg_flags INTERFACE -fsanitize=${TG_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(tg_flags INTERFACE -fsanitize=${TG_SANITIZE})
else()
  target_compile_options(tg_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>
    -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  include(CheckCCompilerFlag)
  check_c_compiler_flag(-ftrivial-auto-var-init=zero TG_HAS_AUTO_INIT) # gcc 12, clang 16
  if(TG_HAS_AUTO_INIT)
    target_compile_options(tg_flags INTERFACE -ftrivial-auto-var-init=zero)
  endif()
  target_link_options(tg_flags INTERFACE -Wl,-z,relro,-z,now)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()
