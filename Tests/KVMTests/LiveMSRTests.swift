import Glibc
import KVM
import Testing

private let sysenterESP: UInt32 = 0x175
private let sysenterEIP: UInt32 = 0x176
private let noSuchMSR: UInt32 = 0xDEAD_BEEF

extension LiveKVMTests {
  @Test func `MSRs read back as they were set`() throws {
    let guest = try RealModeGuest([0xF4])
    try guest.vcpu.setMSR(sysenterEIP, to: 0x1234_5678)
    #expect(try guest.vcpu.msr(sysenterEIP) == 0x1234_5678)
    #expect(try guest.vcpu.setMSRs([(sysenterESP, 5), (sysenterEIP, 6)]) == 2)
    #expect(try guest.vcpu.msrs([sysenterESP, sysenterEIP]) == [5, 6])
    #expect(try guest.vcpu.msrs([]) == [])
  }

  @Test(.disabled(if: Host.ignoresUnknownMSRs, "kvm.ignore_msrs is set"))
  func `several MSRs are processed up to the first refused one`() throws {
    let guest = try RealModeGuest([0xF4])
    #expect(try guest.vcpu.setMSRs([(sysenterESP, 7), (noSuchMSR, 8), (sysenterEIP, 9)]) == 1)
    #expect(try guest.vcpu.msrs([sysenterESP, noSuchMSR, sysenterEIP]) == [7])
    #expect(try guest.vcpu.msr(sysenterEIP) == 0)
  }

  @Test(.disabled(if: Host.ignoresUnknownMSRs, "kvm.ignore_msrs is set"))
  func `a refused MSR is an error that names it`() throws {
    let guest = try RealModeGuest([0xF4])
    let read = try #require(throws: KVMError.self) { _ = try guest.vcpu.msr(noSuchMSR) }
    #expect(read.request == "KVM_GET_MSRS")
    #expect(read.errno == EINVAL)
    #expect(try #require(read.remedy).hasPrefix("The kernel refused MSR 0xdeadbeef"))
    let write = try #require(throws: KVMError.self) { try guest.vcpu.setMSR(noSuchMSR, to: 1) }
    #expect(write.request == "KVM_SET_MSRS")
    #expect(write.errno == EINVAL)
  }

  @Test(.enabled(if: Host.has(.msrFilter), "KVM_CAP_X86_MSR_FILTER is missing"))
  func `filtered MSR accesses go to user space and get their answers`() throws {
    // mov ecx, 0x12; rdmsr; inc eax; wrmsr; hlt
    let guest = try RealModeGuest([
      0x66, 0xB9, 0x12, 0x00, 0x00, 0x00, 0x0F, 0x32, 0x66, 0x40, 0x0F, 0x30, 0xF4,
    ])
    let reason = MSRExitReasons.filter.rawValue
    try guest.machine.enableCapability(.userSpaceMSR, arguments: [UInt64(reason)])
    try guest.machine.setMSRFilter(MSRFilter(ranges: [.init(denying: 0x11...0x12)]))
    try guest.expectExit(.readMSR(index: 0x12, reason: reason))
    guest.vcpu.completeReadMSR(value: 0x5_0000_0006)
    try guest.expectExit(.writeMSR(index: 0x12, value: 0x5_0000_0007, reason: reason))
    guest.vcpu.completeWriteMSR(accepted: true)
    try guest.expectExit(.halt)
  }

  @Test(.enabled(if: Host.has(.msrFilter), "KVM_CAP_X86_MSR_FILTER is missing"))
  func `a refused answer faults in the guest`() throws {
    // mov ecx, 0x12; rdmsr; wrmsr; hlt
    let guest = try RealModeGuest([
      0x66, 0xB9, 0x12, 0x00, 0x00, 0x00, 0x0F, 0x32, 0x0F, 0x30, 0xF4,
    ])
    // The handler of #GP at 0x1800 goes on behind the instruction, whose length is 2:
    // mov al, 0x55; out 0x80, al; add word [0x0ffa], 2; iret
    guest.memory.write(
      [0xB0, 0x55, 0xE6, 0x80, 0x83, 0x06, 0xFA, 0x0F, 0x02, 0xCF], at: 0x1800)
    guest.memory.store32(0x0000_1800, at: 13 * 4)
    let reason = MSRExitReasons.filter.rawValue
    try guest.machine.enableCapability(.userSpaceMSR, arguments: [UInt64(reason)])
    try guest.machine.setMSRFilter(MSRFilter(ranges: [.init(denying: 0x11...0x12)]))
    try guest.expectExit(.readMSR(index: 0x12, reason: reason))
    guest.vcpu.completeReadMSR(value: nil)
    let fault = VCPUExit.out(port: 0x80, size: 1, count: 1, value: 0x55)
    try guest.expectExit(fault)
    try guest.expectExit(.writeMSR(index: 0x12, value: 0x55, reason: reason))
    guest.vcpu.completeWriteMSR(accepted: false)
    try guest.expectExit(fault)
    try guest.expectExit(.halt)
  }

  @Test func `a capability that does not exist is refused with a remedy`() throws {
    let guest = try RealModeGuest([0xF4])
    let unknown = Capability(rawValue: 60_000)
    let refusal = KVMError(request: "KVM_ENABLE_CAP", errno: EINVAL)
    #expect(throws: refusal) { try guest.machine.enableCapability(unknown) }
    #expect(throws: refusal) { try guest.vcpu.enableCapability(unknown) }
  }

  @Test(
    .enabled(
      if: Host.has(.enforcePVFeatureCPUID), "KVM_CAP_ENFORCE_PV_FEATURE_CPUID is missing"))
  func `a vCPU without the clock in its CPUID has no clock MSR once CPUID is enforced`() throws {
    // mov ecx, 0x4b564d01; xor eax, eax; xor edx, edx; wrmsr; hlt
    let guest = try RealModeGuest([
      0x66, 0xB9, 0x01, 0x4D, 0x56, 0x4B, 0x66, 0x31, 0xC0, 0x66, 0x31, 0xD2, 0x0F, 0x30, 0xF4,
    ])
    // The handler of #GP at 0x1800: mov al, 0x66; out 0x80, al
    guest.memory.write([0xB0, 0x66, 0xE6, 0x80], at: 0x1800)
    guest.memory.store32(0x0000_1800, at: 13 * 4)
    try guest.vcpu.enableCapability(.enforcePVFeatureCPUID, arguments: [1])
    try guest.expectExit(.out(port: 0x80, size: 1, count: 1, value: 0x66))
  }
}
