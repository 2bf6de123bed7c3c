/* SPDX-License-Identifier: Apache-2.0 */
/* disassembly.c - the one file that includes Zydis. */
#include "disassembly.h"

#include <Zydis/Zydis.h>

#define MODRM_RIP      5 /* rm, with mod 0: [rip + disp32] */
#define MODRM_SIB      4
#define SIB_NO_BASE    5 /* with mod 0: [disp32 + index * scale] */
#define SIB_NO_INDEX   4
#define FAR_GROUP      0xff /* opcode; reg tells what it does */
#define SCALE_OF_TABLE 3    /* 2^3 bytes an entry */

static bool is_padding(const ZydisDecodedInstruction *in)
{
    return in->mnemonic == ZYDIS_MNEMONIC_INT3 || in->mnemonic == ZYDIS_MNEMONIC_NOP;
}

static enum instruction_flow flow_of(const ZydisDecodedInstruction *in)
{
    bool direct = in->raw.imm[0].is_relative;
    switch ((int)in->meta.category) {
    case ZYDIS_CATEGORY_CALL:
        return direct ? INSTRUCTION_CALL : INSTRUCTION_CALL_COMPUTED;
    case ZYDIS_CATEGORY_UNCOND_BR:
        return direct ? INSTRUCTION_JUMP : INSTRUCTION_JUMP_COMPUTED;
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSRET:
        return INSTRUCTION_STOP;
    default:
        break;
    }
    switch ((int)in->mnemonic) {
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_INT3:
        return INSTRUCTION_STOP;
    default:
        return direct ? INSTRUCTION_BRANCH : INSTRUCTION_NEXT; /* xbegin is a branch as well */
    }
}

static bool is_short(const ZydisDecodedInstruction *in)
{
    switch ((int)in->mnemonic) {
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return true;
    default:
        return false;
    }
}

/* The field that counts from the next instruction, if there is one. */
static void take_relative(const ZydisDecodedInstruction *in, uint64_t address,
                          struct instruction *ret)
{
    uint64_t next = address + in->length;
    bool has_modrm = in->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    if (in->raw.imm[0].is_relative) {
        ret->relative_at = in->raw.imm[0].offset;
        ret->relative_size = (uint8_t)(in->raw.imm[0].size / 8);
        ret->relative = next + (uint64_t)in->raw.imm[0].value.s;
    } else if (has_modrm && in->raw.modrm.mod == 0 && in->raw.modrm.rm == MODRM_RIP) {
        ret->relative_at = in->raw.disp.offset;
        ret->relative_size = (uint8_t)(in->raw.disp.size / 8);
        ret->relative = next + (uint64_t)in->raw.disp.value;
        if (in->address_width == 32)
            ret->relative = (uint32_t)ret->relative;
    } else if (has_modrm && in->raw.modrm.mod == 0 && in->raw.modrm.rm == MODRM_SIB &&
               in->raw.sib.base == SIB_NO_BASE && in->raw.sib.index != SIB_NO_INDEX &&
               in->raw.sib.scale == SCALE_OF_TABLE) {
        ret->table = (uint64_t)in->raw.disp.value;
    }
}

static void take(const ZydisDecodedInstruction *in, uint64_t address, struct instruction *ret)
{
    *ret = (struct instruction){.length = in->length,
                                .flow = flow_of(in),
                                .is_cpuid = in->mnemonic == ZYDIS_MNEMONIC_CPUID,
                                .is_padding = is_padding(in),
                                .is_short = is_short(in)};
    take_relative(in, address, ret);
}

static void open_decoder(ZydisDecoder *ret)
{
    /* It cannot fail for this mode. */
    (void)ZydisDecoderInit(ret, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

bool instruction_decode(const uint8_t *bytes, size_t size, uint64_t address,
                        struct instruction *ret)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction in;
    open_decoder(&decoder);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, size, &in)))
        return false;
    take(&in, address, ret);
    return true;
}

/* ---- what it does with registers */

/* add, adc and sbb of bytes in memory: what small numbers in tables decode as. */
static bool is_byte_sum(const ZydisDecodedInstruction *in)
{
    return in->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && in->raw.modrm.mod != 3 &&
           (in->opcode & 0xe5) == 0x00 && in->opcode != 0x08 && in->opcode != 0x0a;
}

static bool is_unusual(const ZydisDecodedInstruction *in)
{
    if (is_byte_sum(in))
        return true;
    switch ((int)in->meta.category) {
    case ZYDIS_CATEGORY_DECIMAL:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_X87_ALU:
    case ZYDIS_CATEGORY_FCMOV:
    case ZYDIS_CATEGORY_XOP:
        return true;
    case ZYDIS_CATEGORY_INTERRUPT:
        return in->mnemonic != ZYDIS_MNEMONIC_INT3;
    default:
        break;
    }
    if (in->attributes & (ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_SEGMENT_GS))
        return true;
    switch ((int)in->mnemonic) {
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_FWAIT:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSD:
        return true;
    default:
        return is_short(in);
    }
}

static uint8_t bit_of(ZydisRegister r)
{
    switch ((int)ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r)) {
    case ZYDIS_REGISTER_RAX:
        return REGISTER_EAX;
    case ZYDIS_REGISTER_RBX:
        return REGISTER_EBX;
    case ZYDIS_REGISTER_RCX:
        return REGISTER_ECX;
    case ZYDIS_REGISTER_RDX:
        return REGISTER_EDX;
    default:
        return 0;
    }
}

static void take_operand(const ZydisDecodedOperand *operand, struct instruction_use *use)
{
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (operand->mem.type == ZYDIS_MEMOP_TYPE_MEM)
            use->addresses |= bit_of(operand->mem.base) | bit_of(operand->mem.index);
        else /* lea only calculates */
            use->reads |= bit_of(operand->mem.base) | bit_of(operand->mem.index);
    } else if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        uint8_t bit = bit_of(operand->reg.value);
        if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
            use->reads |= bit;
        if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            use->writes |= bit;
    }
}

bool instruction_decode_use(const uint8_t *bytes, size_t size, uint64_t address,
                            struct instruction *ret, struct instruction_use *ret_use)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    open_decoder(&decoder);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &in, operands)))
        return false;
    if (ret)
        take(&in, address, ret);
    if (ret_use) {
        *ret_use = (struct instruction_use){.is_unusual = is_unusual(&in)};
        for (unsigned i = 0; i < in.operand_count; i++)
            take_operand(&operands[i], ret_use);
    }
    return true;
}
