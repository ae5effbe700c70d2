import Glibc
import Testing

@testable import KVM

/// One call of a wrapper on a descriptor that is not open.
struct BadDescriptorCall: Sendable, CustomTestStringConvertible {
  let request: String
  let wrapper: String
  let call: @Sendable () throws -> Void

  var testDescription: String { wrapper }

  init(_ request: String, _ wrapper: String, _ call: @escaping @Sendable () throws -> Void) {
    self.request = request
    self.wrapper = wrapper
    self.call = call
  }
}

private func system() -> KVMSystem {
  KVMSystem(owning: FileDescriptor(owning: -1))
}

private func machine() -> VirtualMachine {
  VirtualMachine(owning: FileDescriptor(owning: -1), vcpuMappingSize: 0x3000)
}

private func vcpu() throws -> VCPU {
  VCPU(
    id: 0, owning: FileDescriptor(owning: -1),
    area: RunArea(try Mapping(anonymous: 0x3000)), of: Slots())
}

private let systemCalls = [
  BadDescriptorCall("KVM_GET_API_VERSION", "version") { _ = try system().version() },
  BadDescriptorCall("KVM_CHECK_EXTENSION", "checkExtension") {
    _ = try system().checkExtension(.userMemory)
  },
  BadDescriptorCall("KVM_GET_SUPPORTED_CPUID", "supportedCPUID") {
    _ = try system().supportedCPUID()
  },
  BadDescriptorCall("KVM_GET_MSR_INDEX_LIST", "msrIndexList") { _ = try system().msrIndexList() },
  BadDescriptorCall("KVM_CREATE_VM", "createVM") { _ = try system().createVM() },
  BadDescriptorCall("KVM_GET_VCPU_MMAP_SIZE", "vcpuMappingSize") {
    _ = try system().vcpuMappingSize()
  },
]

private let machineCalls = [
  BadDescriptorCall("KVM_CREATE_VCPU", "createVCPU") { _ = try machine().createVCPU(id: 0) },
  BadDescriptorCall("KVM_SET_USER_MEMORY_REGION", "setMemoryRegion") {
    let memory = try GuestMemory(size: 4096)
    try machine().setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)
  },
  BadDescriptorCall("KVM_SET_USER_MEMORY_REGION", "deleteMemoryRegion") {
    try machine().deleteMemoryRegion(slot: 0)
  },
  BadDescriptorCall("KVM_GET_DIRTY_LOG", "dirtyLog") {
    _ = try machine().dirtyLog(slot: 0, pageCount: 1)
  },
  BadDescriptorCall("KVM_CLEAR_DIRTY_LOG", "clearDirtyLog") {
    try machine().clearDirtyLog(slot: 0, pages: [true])
  },
  BadDescriptorCall("KVM_RESET_DIRTY_RINGS", "resetDirtyRings") {
    try machine().resetDirtyRings()
  },
  BadDescriptorCall("KVM_GET_CLOCK", "clock") { _ = try machine().clock() },
  BadDescriptorCall("KVM_GET_CLOCK", "clock(over:)") { _ = try machine().clock(over: 0xa5) },
  BadDescriptorCall("KVM_SET_CLOCK", "setClock") { try machine().setClock(ClockData(clock: 0)) },
  BadDescriptorCall("KVM_CHECK_EXTENSION", "VM checkExtension") {
    _ = try machine().checkExtension(.adjustClock)
  },
  BadDescriptorCall("KVM_ENABLE_CAP", "VM enableCapability") {
    try machine().enableCapability(.userSpaceMSR)
  },
  BadDescriptorCall("KVM_CREATE_IRQCHIP", "createIRQChip") { try machine().createIRQChip() },
  BadDescriptorCall("KVM_X86_SET_MSR_FILTER", "setMSRFilter") {
    try machine().setMSRFilter(MSRFilter())
  },
  BadDescriptorCall("KVM_GET_TSC_KHZ", "VM tscKHz") { _ = try machine().tscKHz() },
  BadDescriptorCall("KVM_SET_TSC_KHZ", "VM setTSCKHz") { try machine().setTSCKHz(1) },
  BadDescriptorCall("KVM_SET_TSS_ADDR", "setTSSAddress") { try machine().setTSSAddress(0) },
  BadDescriptorCall("KVM_SET_IDENTITY_MAP_ADDR", "setIdentityMapAddress") {
    try machine().setIdentityMapAddress(0)
  },
  BadDescriptorCall("KVM_XEN_HVM_CONFIG", "setXenClockUnstable") {
    try machine().setXenClockUnstable(true)
  },
  BadDescriptorCall("KVM_XEN_HVM_SET_ATTR", "setXenSharedInfo") {
    let memory = try GuestMemory(size: 4096)
    try machine().setXenSharedInfo(at: memory.piece(at: 0, count: 4096), is64Bit: true)
  },
]

private let vcpuStateCalls = [
  BadDescriptorCall("KVM_RUN", "run") {
    var vcpu = try vcpu()
    _ = try vcpu.run()
  },
  BadDescriptorCall("KVM_GET_REGS", "registers") { _ = try vcpu().registers() },
  BadDescriptorCall("KVM_SET_REGS", "setRegisters") { try vcpu().setRegisters(Registers()) },
  BadDescriptorCall("KVM_GET_SREGS", "specialRegisters") { _ = try vcpu().specialRegisters() },
  BadDescriptorCall("KVM_SET_SREGS", "setSpecialRegisters") {
    try vcpu().setSpecialRegisters(SpecialRegisters())
  },
  BadDescriptorCall("KVM_GET_CPUID2", "cpuid") { _ = try vcpu().cpuid() },
  BadDescriptorCall("KVM_SET_CPUID2", "setCPUID") { try vcpu().setCPUID([]) },
  BadDescriptorCall("KVM_GET_MSRS", "msr") { _ = try vcpu().msr(0x10) },
  BadDescriptorCall("KVM_GET_MSRS", "msrs") { _ = try vcpu().msrs([0x10, 0x11]) },
  BadDescriptorCall("KVM_SET_MSRS", "setMSR") { try vcpu().setMSR(0x10, to: 0) },
  BadDescriptorCall("KVM_SET_MSRS", "setMSRs") { _ = try vcpu().setMSRs([(0x10, 0)]) },
  BadDescriptorCall("KVM_ENABLE_CAP", "vCPU enableCapability") {
    try vcpu().enableCapability(.enforcePVFeatureCPUID, arguments: [1])
  },
]

private let vcpuEventCalls = [
  BadDescriptorCall("KVM_KVMCLOCK_CTRL", "markGuestPaused") { try vcpu().markGuestPaused() },
  BadDescriptorCall("KVM_GET_TSC_KHZ", "vCPU tscKHz") { _ = try vcpu().tscKHz() },
  BadDescriptorCall("KVM_SET_TSC_KHZ", "vCPU setTSCKHz") { try vcpu().setTSCKHz(1) },
  BadDescriptorCall("KVM_HAS_DEVICE_ATTR", "hasTSCOffset") { _ = try vcpu().hasTSCOffset() },
  BadDescriptorCall("KVM_GET_DEVICE_ATTR", "tscOffset") { _ = try vcpu().tscOffset() },
  BadDescriptorCall("KVM_SET_DEVICE_ATTR", "setTSCOffset") { try vcpu().setTSCOffset(0) },
  BadDescriptorCall("KVM_GET_MP_STATE", "mpState") { _ = try vcpu().mpState() },
  BadDescriptorCall("KVM_SET_MP_STATE", "setMPState") { try vcpu().setMPState(.runnable) },
  BadDescriptorCall("KVM_GET_VCPU_EVENTS", "events") { _ = try vcpu().events() },
  BadDescriptorCall("KVM_SET_VCPU_EVENTS", "setEvents") { try vcpu().setEvents(VCPUEvents()) },
  BadDescriptorCall("KVM_SET_SIGNAL_MASK", "setSignalMask") { try vcpu().setSignalMask([10]) },
  BadDescriptorCall("KVM_SET_SIGNAL_MASK", "setSignalMask of nil") {
    try vcpu().setSignalMask(nil)
  },
  BadDescriptorCall("KVM_GET_LAPIC", "lapic") { _ = try vcpu().lapic() },
  BadDescriptorCall("KVM_SET_LAPIC", "setLAPIC") { try vcpu().setLAPIC(LocalAPIC()) },
  BadDescriptorCall("KVM_INTERRUPT", "injectInterrupt") { try vcpu().injectInterrupt(vector: 32) },
  BadDescriptorCall("KVM_NMI", "injectNMI") { try vcpu().injectNMI() },
  BadDescriptorCall("KVM_XEN_VCPU_SET_ATTR", "setXenTimeInfo") {
    try vcpu().setXenTimeInfo(at: 0)
  },
  BadDescriptorCall("KVM_XEN_VCPU_SET_ATTR", "setXenInfo") {
    let memory = try GuestMemory(size: 4096)
    try vcpu().setXenInfo(at: memory.piece(at: 64, count: 64))
  },
  BadDescriptorCall("KVM_SET_GUEST_DEBUG", "setGuestDebug") {
    try vcpu().setGuestDebug([.enable])
  },
]

@Test(arguments: systemCalls + machineCalls + vcpuStateCalls + vcpuEventCalls)
func `every wrapper names its request when the descriptor is bad`(_ call: BadDescriptorCall) throws
{
  let error = try #require(throws: KVMError.self) { try call.call() }
  #expect(error.request == call.request)
  #expect(error.errnoName == "EBADF")
  #expect(error.remedy == nil)
  #expect(
    error.description == "\(call.request) failed: Bad file descriptor (EBADF, errno 9)")
}
