import CKVM
import Glibc
import KVM
import Testing

@testable import KVM

extension LiveKVMTests {
  @Test func `the host has KVM's version and what guests need`() throws {
    let system = try KVMSystem()
    #expect(try system.version() == 12)
    #expect(try system.checkExtension(.userMemory) == 1)
    #expect(try system.checkExtension(Capability(rawValue: 60_000)) == 0)
    #expect(try system.vcpuMappingSize() >= MemoryLayout<kvm_run>.size)
    let machine = try system.createVM()
    #expect(try machine.checkExtension(.maxVCPUs) >= 1)
  }

  @Test func `lists that need more room are asked for again`() throws {
    let system = try KVMSystem()
    let leaves = try system.supportedCPUID(firstCapacity: 1)
    #expect(leaves.count > 1)
    #expect(try leaves.map(\.function) == system.supportedCPUID().map(\.function))
    let indices = try system.msrIndexList(firstCapacity: 0)
    #expect(indices.contains(0x10))
    #expect(try indices == system.msrIndexList())
  }

  @Test func `CPUID entries read back as they were set`() throws {
    let system = try KVMSystem()
    let guest = try RealModeGuest([0xF4])
    var leaves = try system.supportedCPUID()
    leaves.append(
      CPUIDEntry(function: 0x4000_1234, eax: 0x4000_1234, ebx: 1, ecx: 2, edx: 3))
    try guest.vcpu.setCPUID(leaves)
    let back = try guest.vcpu.cpuid(firstCapacity: 1)
    // There are backends that leave out the leaves of what they do not have: 0x1d and 0x1e of AMX.
    let kept = Set(back.map(\.function))
    #expect(kept.isSuperset(of: [0, 1, 0x4000_0000, 0x4000_0001]))
    #expect(back.map(\.function) == leaves.map(\.function).filter(kept.contains))
    #expect(back.last == leaves.last)
  }

  @Test func `the guest executes CPUID with the entries that were set`() throws {
    // mov eax, 0x40001234; cpuid; mov eax, ebx; out 0x80, eax
    let guest = try RealModeGuest([
      0x66, 0xB8, 0x34, 0x12, 0x00, 0x40, 0x0F, 0xA2, 0x66, 0x89, 0xD8, 0x66, 0xE7, 0x80,
    ])
    var leaves = try KVMSystem().supportedCPUID()
    leaves.append(CPUIDEntry(function: 0x4000_1234, ebx: 0xB0B))
    try guest.vcpu.setCPUID(leaves)
    try guest.expectExit(.out(port: 0x80, size: 4, count: 1, value: 0xB0B))
  }

  @Test func `registers read back as they were set`() throws {
    let guest = try RealModeGuest([0xF4])
    var registers = try guest.vcpu.registers()
    registers.rbx = 0x1234_5678_9ABC_DEF0
    registers.r15 = 15
    try guest.vcpu.setRegisters(registers)
    let back = try guest.vcpu.registers()
    #expect(back.rbx == 0x1234_5678_9ABC_DEF0)
    #expect(back.r15 == 15)
    #expect(back.rip == RealModeGuest.entry)
    var special = try guest.vcpu.specialRegisters()
    special.ds.selector = 0x123
    special.ds.base = 0x1230
    try guest.vcpu.setSpecialRegisters(special)
    let segment: Segment = try guest.vcpu.specialRegisters().ds
    #expect(segment.selector == 0x123)
    #expect(segment.base == 0x1230)
  }

  @Test func `multiprocessor state reads back as it was set`() throws {
    let machine = try KVMSystem().createVM()
    try machine.createIRQChip()
    let first = try machine.createVCPU(id: 0)
    let second = try machine.createVCPU(id: 1)
    #expect(try first.mpState() == .runnable)
    #expect(try second.mpState() == .uninitialized)
    try second.setMPState(.halted)
    #expect(try second.mpState() == .halted)
  }

  @Test func `the local APIC reads back as it was set`() throws {
    let machine = try KVMSystem().createVM()
    try machine.createIRQChip()
    let vcpu = try machine.createVCPU(id: 3)
    var apic = try vcpu.lapic()
    #expect(apic[0x20] == 3 << 24)
    apic[0x80] = 0x20
    try vcpu.setLAPIC(apic)
    #expect(try vcpu.lapic()[0x80] == 0x20)
  }

  @Test func `interrupt controllers come before vCPUs`() throws {
    let machine = try KVMSystem().createVM()
    let vcpu = try machine.createVCPU(id: 0)
    let error = try #require(throws: KVMError.self) { try machine.createIRQChip() }
    #expect(error == KVMError(request: "KVM_CREATE_IRQCHIP", errno: EINVAL))
    #expect(vcpu.id == 0)
  }

  @Test func `vCPU events read back as they were set`() throws {
    let guest = try RealModeGuest([0xF4])
    var events = try guest.vcpu.events()
    #expect(events.nmi.masked == 0)
    events.nmi.masked = 1
    try guest.vcpu.setEvents(events)
    #expect(try guest.vcpu.events().nmi.masked == 1)
  }

  @Test func `a waiting vCPU stays waiting until it is interrupted`() throws {
    let machine = try KVMSystem().createVM()
    try machine.createIRQChip()
    let first = try machine.createVCPU(id: 0)
    var second = try machine.createVCPU(id: 1)
    second.interrupter.requestImmediateExit(true)
    let exit = try second.run()
    #expect(exit == .interrupted)
    #expect(first.id == 0)
  }
}
