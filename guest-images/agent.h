/*
 * What the agent does, the same in every mode. A mode's file defines before it includes this:
 *   BOX(offset)       the operand at an offset into the mailbox
 *   RECORD(offset)    the operand at an offset from the address of ADDRESS_ARGUMENT
 *   ADDRESS_ARGUMENT  a macro that takes that address from an argument, by its number
 * and after it: `next`, which carries out the next request by way of AGENT_TARGETS, and a fault handler that ends in `bell`.
 */

/* By request. */
#define AGENT_TARGETS \
    done, read_msr, write_msr, read_clock, write_msr_read_clock, read_tsc, run_cpuid, peek, poke, halt, invalid_opcode, \
    hypercall, NESTED_TARGETS

/* Only long mode has them. */
#ifndef NESTED_TARGETS
#define NESTED_TARGETS unknown, unknown
#endif

.macro WRITE_MSR
    movl BOX(MAILBOX_ARGUMENT0), %ecx
    movl BOX(MAILBOX_ARGUMENT1), %eax
    movl BOX(MAILBOX_ARGUMENT1 + 4), %edx
    wrmsr
.endm

read_msr:
    movl BOX(MAILBOX_ARGUMENT0), %ecx
    rdmsr
    jmp result_edx_eax

write_msr:
    WRITE_MSR
    jmp done

write_msr_read_clock:
    ADDRESS_ARGUMENT 2
    WRITE_MSR
    jmp read_record
read_clock:
    ADDRESS_ARGUMENT 0
read_record:
    movl $CLOCK_ATTEMPTS, %ecx
1:  movl RECORD(0), %eax
    movl %eax, BOX(MAILBOX_SNAPSHOT)
    rdtsc
    movl %eax, BOX(MAILBOX_TSC)
    movl %edx, BOX(MAILBOX_TSC + 4)
    .irp at, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c
    movl RECORD(\at), %eax
    movl %eax, BOX(MAILBOX_SNAPSHOT + \at)
    .endr
    movl RECORD(0), %eax
    testl $1, %eax
    jnz 2f
    cmpl BOX(MAILBOX_SNAPSHOT), %eax
    je done
2:  decl %ecx
    jnz 1b
    movl $STATUS_NEVER_EVEN, BOX(MAILBOX_STATUS)
    jmp bell

read_tsc:
    rdtsc
result_edx_eax:
    movl %eax, BOX(MAILBOX_RESULT0)
    movl %edx, BOX(MAILBOX_RESULT0 + 4)
    jmp done

run_cpuid:
    movl BOX(MAILBOX_ARGUMENT0), %eax
    movl BOX(MAILBOX_ARGUMENT1), %ecx
    cpuid
    movl %eax, BOX(MAILBOX_RESULT0)
    movl %ebx, BOX(MAILBOX_RESULT0 + 4)
    movl %ecx, BOX(MAILBOX_RESULT1)
    movl %edx, BOX(MAILBOX_RESULT1 + 4)
    jmp done

peek:
    ADDRESS_ARGUMENT 0
    movl RECORD(0), %eax
    movl %eax, BOX(MAILBOX_RESULT0)
    jmp done

poke:
    ADDRESS_ARGUMENT 0
    movl BOX(MAILBOX_ARGUMENT1), %eax
    movl %eax, RECORD(0)
    jmp done

halt:
    hlt
    jmp done

invalid_opcode:
    ud2

hypercall:
    movl BOX(MAILBOX_ARGUMENT0), %ebx
    movl BOX(MAILBOX_ARGUMENT1), %ecx
    movl BOX(MAILBOX_ARGUMENT2), %eax
    btrl $31, %eax
    jc 1f
    vmcall
    jmp 2f
1:  vmmcall
2:  cltd
    jmp result_edx_eax

unknown:
    movl $STATUS_UNKNOWN_REQUEST, BOX(MAILBOX_STATUS)
    jmp bell
done:
    movl $STATUS_DONE, BOX(MAILBOX_STATUS)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp next
