import Glibc
import KVM
import Testing

extension LiveKVMTests {
  @Test func `the VM's clock goes on from where it was set`() throws {
    let machine = try KVMSystem().createVM()
    let start: UInt64 = 1_000_000_000_000
    let before = hostNanoseconds()
    try machine.setClock(ClockData(clock: start))
    let data = try machine.clock()
    let elapsed = hostNanoseconds() - before
    #expect(data.clock >= start)
    // The clock was running for no longer than this; KVM's rate may differ from the host's a bit.
    #expect(data.clock - start <= elapsed + elapsed / 100 + 1)
  }

  @Test func `the clock's flags are among those that the capability announces`() throws {
    let system = try KVMSystem()
    let known = ClockFlags(rawValue: UInt32(try system.checkExtension(.adjustClock)))
    let data = try system.createVM().clock()
    #expect(data.flags.isSubset(of: known))
    #expect(data.flags.contains(.realtime) == (data.realtime != 0))
    #expect(data.flags.contains(.hostTSC) == (data.hostTSC != 0))
  }

  @Test func `the kernel writes every word of its structure`() throws {
    let machine = try KVMSystem().createVM()
    let before = try machine.clock()
    let (data, reserved) = try machine.clock(over: 0xa5)
    #expect(reserved == [0, 0, 0, 0, 0])
    #expect(data.flags == before.flags)
    #expect(data.clock >= before.clock && data.clock < 0xa5 << 56)
  }

  @Test func `a guest without a clock page cannot be told that it was paused`() throws {
    let guest = try RealModeGuest([0xF4])
    let error = try #require(throws: KVMError.self) { try guest.vcpu.markGuestPaused() }
    #expect(error == KVMError(request: "KVM_KVMCLOCK_CTRL", errno: EINVAL))
  }

  @Test func `a guest with a clock page can be told that it was paused`() throws {
    let guest = try RealModeGuest([0xF4])
    try guest.vcpu.setMSR(0x4b56_4d01, to: 0x3000 | 1)
    try guest.expectExit(.halt)
    #expect(guest.memory.load32(at: 0x3000) != 0)
    try guest.vcpu.markGuestPaused()
  }

  @Test func `the TSC has a frequency that can be set again`() throws {
    let guest = try RealModeGuest([0xF4])
    let frequency = try guest.vcpu.tscKHz()
    #expect(frequency > 100_000)
    try guest.vcpu.setTSCKHz(frequency)
    #expect(try guest.vcpu.tscKHz() == frequency)
  }

  @Test(.enabled(if: Host.has(.vmTSCControl), "KVM_CAP_VM_TSC_CONTROL is missing"))
  func `vCPUs get the VM's TSC frequency`() throws {
    let machine = try KVMSystem().createVM()
    let frequency = try machine.tscKHz()
    #expect(frequency > 100_000)
    try machine.setTSCKHz(frequency)
    let vcpu = try machine.createVCPU(id: 0)
    #expect(try vcpu.tscKHz() == frequency)
  }

  @Test(.enabled(if: Host.has(.vcpuAttributes), "KVM_CAP_VCPU_ATTRIBUTES is missing"))
  func `the TSC offset can be set and read`() throws {
    let guest = try RealModeGuest([0xF4])
    #expect(try guest.vcpu.hasTSCOffset())
    try guest.vcpu.setTSCOffset(UInt64(bitPattern: -1_000_000))
    // Some backends take the offset and ignore it, so its value says nothing about the wrapper.
    _ = try guest.vcpu.tscOffset()
  }
}

private func hostNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC_RAW, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
