# SPDX-License-Identifier: Apache-2.0
# Fails when docs/features.md is not what registry_gen writes today.
execute_process(COMMAND ${GENERATOR} ${FEATURES} doc ${FRESH} RESULT_VARIABLE failed)
if(failed)
    message(FATAL_ERROR "registry_gen failed")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${DOC} ${FRESH} RESULT_VARIABLE differs)
if(differs)
    message(FATAL_ERROR "${DOC} is stale: run registry_gen ${FEATURES} doc ${DOC}")
endif()
