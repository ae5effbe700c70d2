import Glibc
import KVM
import Testing

extension LiveKVMTests {
  @Test func `OUT and HLT end a run and the next run goes on behind them`() throws {
    // mov dx, 0x3f8; mov al, 'A'; out dx, al; hlt; mov eax, 0x12345678; out dx, eax
    let guest = try RealModeGuest([
      0xBA, 0xF8, 0x03, 0xB0, 0x41, 0xEE, 0xF4, 0x66, 0xB8, 0x78, 0x56, 0x34, 0x12, 0x66, 0xEF,
    ])
    try guest.expectExit(.out(port: 0x3F8, size: 1, count: 1, value: 0x41))
    try guest.expectExit(.halt)
    try guest.expectExit(.out(port: 0x3F8, size: 4, count: 1, value: 0x1234_5678))
  }

  @Test func `the guest sees the answer to its IN`() throws {
    // mov dx, 0x60; in ax, dx; out dx, ax
    let guest = try RealModeGuest([0xBA, 0x60, 0x00, 0xED, 0xEF])
    try guest.expectExit(.in(port: 0x60, size: 2, count: 1))
    guest.vcpu.completeIn(value: 0xBEEF)
    try guest.expectExit(.out(port: 0x60, size: 2, count: 1, value: 0xBEEF))
  }

  @Test func `accesses to unmapped addresses are MMIO and reads get their answer`() throws {
    // mov eax, [0xf000]; mov [0xf004], eax; mov [0xf008], al; hlt
    let guest = try RealModeGuest([
      0x66, 0xA1, 0x00, 0xF0, 0x66, 0xA3, 0x04, 0xF0, 0xA2, 0x08, 0xF0, 0xF4,
    ])
    try guest.expectExit(.mmioRead(address: 0xF000, length: 4))
    guest.vcpu.completeMMIORead(value: 0xFFFF_FFFF_CAFE_F00D)
    try guest.expectExit(.mmioWrite(address: 0xF004, length: 4, value: 0xCAFE_F00D))
    try guest.expectExit(.mmioWrite(address: 0xF008, length: 1, value: 0x0D))
    try guest.expectExit(.halt)
  }

  @Test func `a triple fault is a shutdown`() throws {
    // ud2 in protected mode, with an interrupt table that has room for no vector
    let guest = try RealModeGuest([0x0F, 0x0B])
    var special = try guest.vcpu.specialRegisters()
    var flat = special.cs
    flat.limit = 0xFFFF_FFFF
    (flat.db, flat.g) = (1, 1)
    (special.cs, special.ss, special.ds, special.es) = (flat, flat, flat, flat)
    (special.cs.selector, special.cs.type) = (8, 11)
    for segment in [\SpecialRegisters.ss, \.ds, \.es] {
      special[keyPath: segment].selector = 16
      special[keyPath: segment].type = 3
    }
    special.idt.limit = 0
    special.cr0 |= 1
    try guest.vcpu.setSpecialRegisters(special)
    try guest.expectExit(.shutdown)
  }

  @Test func `an immediate exit interrupts every run until it is taken back`() throws {
    let guest = try RealModeGuest([0xF4])
    guest.interrupter.requestImmediateExit(true)
    try guest.expectExit(.interrupted)
    try guest.expectExit(.interrupted)
    guest.interrupter.requestImmediateExit(false)
    try guest.expectExit(.halt)
  }

  @Test(arguments: [false, true])
  func `a signal from another thread ends an endless guest loop`(
    isBlockedOutsideOfRuns: Bool
  ) throws {
    // again: inc dword [0x2000]; jmp again
    let guest = try RealModeGuest([0x66, 0xFF, 0x06, 0x00, 0x20, 0xEB, 0xF9])
    if isBlockedOutsideOfRuns { try guest.vcpu.setSignalMask([]) }
    let run = GuestRun(guest, blockingSignal: isBlockedOutsideOfRuns)
    for _ in 0..<10_000 where guest.memory.load32(at: 0x2000) == 0 { usleep(1000) }
    #expect(guest.memory.load32(at: 0x2000) > 0)
    run.kick()
    #expect(try run.finish() == .interrupted)
    if isBlockedOutsideOfRuns { try guest.vcpu.setSignalMask(nil) }
  }

  @Test func `an interrupt runs the guest's handler`() throws {
    // jmp $, and at 0x1800: mov al, 0x33; out 0x80, al
    let guest = try RealModeGuest([0xEB, 0xFE], rflags: 0x202)
    guest.memory.write([0xB0, 0x33, 0xE6, 0x80], at: 0x1800)
    guest.memory.store32(0x0000_1800, at: 0x20 * 4)
    try guest.vcpu.injectInterrupt(vector: 0x20)
    try guest.expectExit(.out(port: 0x80, size: 1, count: 1, value: 0x33))
  }

  @Test func `an NMI runs the guest's handler with interrupts disabled`() throws {
    // jmp $, and at 0x1800: mov al, 0x44; out 0x80, al
    let guest = try RealModeGuest([0xEB, 0xFE])
    guest.memory.write([0xB0, 0x44, 0xE6, 0x80], at: 0x1800)
    guest.memory.store32(0x0000_1800, at: 2 * 4)
    try guest.vcpu.injectNMI()
    try guest.expectExit(.out(port: 0x80, size: 1, count: 1, value: 0x44))
  }

  @Test func `an interrupt window opens when the guest enables interrupts`() throws {
    // out 0x80, al; sti; nop; jmp $
    let guest = try RealModeGuest([0xE6, 0x80, 0xFB, 0x90, 0xEB, 0xFE])
    try guest.expectExit(.out(port: 0x80, size: 1, count: 1, value: 0))
    #expect(guest.vcpu.isReadyForInterrupt == false)
    guest.vcpu.requestInterruptWindow(true)
    try guest.expectExit(.interruptWindowOpen)
    #expect(guest.vcpu.isReadyForInterrupt == true)
  }

  @Test func `a single step ends the run behind one instruction`() throws {
    // nop; nop; hlt
    let guest = try RealModeGuest([0x90, 0x90, 0xF4])
    try guest.vcpu.setGuestDebug([.enable, .singleStep])
    try guest.expectExit(.debug)
    #expect(try guest.vcpu.registers().rip == RealModeGuest.entry + 1)
    try guest.vcpu.setGuestDebug([])
    try guest.expectExit(.halt)
  }
}
