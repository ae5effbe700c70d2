internal import GuestImages
public import KVM
public import PVClock

/// A VM with vCPUs, each on a thread of its own, that run the guests of this package.
///
/// One thread drives a machine. Only the guests run beside it.
public final class Machine {
  /// How a machine is made.
  public struct Options: Sendable {
    /// The vCPU ids that exist from the start.
    public var vcpus: [Int]
    /// The highest id that may be added later.
    public var highest: Int
    public var hasIRQChip: Bool
    /// The capability by which each vCPU gets a dirty ring; nil for none.
    public var dirtyRing: Capability?
    /// How long a guest may run without an answer, in waits of 20 ms: more time passes on a host that is busy or stopped.
    public var deadlineMilliseconds: Int
    /// Asked every few milliseconds while a guest runs; true ends the run.
    public var isCancelled: @Sendable () -> Bool
    /// Who serves the guests' clock; nil for KVM itself.
    public var clock: (any ClockServer)?
    public var sabotage: Sabotage?

    public init(
      vcpus: [Int] = [0], highest: Int? = nil, hasIRQChip: Bool = false,
      dirtyRing: Capability? = nil, deadlineMilliseconds: Int = 5000,
      isCancelled: @escaping @Sendable () -> Bool = { false },
      clock: (any ClockServer)? = nil, sabotage: Sabotage? = nil
    ) {
      self.vcpus = vcpus
      self.highest = max(highest ?? 0, vcpus.max() ?? 0)
      self.hasIRQChip = hasIRQChip
      self.dirtyRing = dirtyRing
      self.deadlineMilliseconds = deadlineMilliseconds
      self.isCancelled = isCancelled
      self.clock = clock
      self.sabotage = sabotage
    }
  }

  public let options: Options
  public let space: GuestSpace
  public var memory: GuestMemory { _read { yield space.memory } }
  public var vm: VirtualMachine { _read { yield space.vm } }
  /// No dictionary: its first use costs a third of what a vCPU costs.
  private var runners: [VCPURunner] = []
  var rings: [(vcpu: Int, ring: DirtyRing)] = []
  /// Whether the dirty log is there beside the rings.
  private(set) var hasLogBesideRings = false
  /// Whether the dirty log keeps its pages until KVM_CLEAR_DIRTY_LOG: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
  public internal(set) var hasManualDirtyLog = false

  /// Makes the VM, its memory and its first vCPUs with their CPUID.
  public init(
    on system: borrowing KVMSystem, cpuid: [CPUIDEntry], _ options: Options = Options()
  ) throws(MachineError) {
    self.options = options
    do {
      let vm = try system.createVM()
      if options.hasIRQChip { try vm.createIRQChip() }
      // Before the first slot: the bitmap wants that.
      if let ring = options.dirtyRing { hasLogBesideRings = try Self.enable(ring, on: vm) }
      let memory = try GuestMemory(size: Layout.memorySize(highest: options.highest))
      try vm.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)
      if let clock = options.clock { try Self.interceptMSRs(of: clock, on: vm) }
      space = GuestSpace(vm: vm, memory: memory)
      options.clock?.vmCreated(space)
    } catch {
      throw .kvm(error)
    }
    for id in options.vcpus { try addVCPU(id, cpuid: cpuid) }
  }

  private static func interceptMSRs(
    of clock: any ClockServer, on vm: borrowing VirtualMachine
  ) throws(KVMError) {
    try vm.enableCapability(
      .userSpaceMSR, arguments: [UInt64(MSRExitReasons.filter.rawValue)])
    try vm.setMSRFilter(MSRFilter(ranges: clock.msrs.map { MSRFilter.Range(denying: $0) }))
  }

  deinit {
    for runner in runners { runner.end() }
  }

  /// Whether a vCPU is confined to the paravirtual features in its CPUID, and when that was asked for.
  public enum Enforcement: Sendable {
    case none, beforeCPUID, afterCPUID
  }

  public func addVCPU(
    _ id: Int, cpuid: [CPUIDEntry], enforcement: Enforcement = .none
  ) throws(MachineError) {
    precondition(id >= 0 && id <= options.highest, "no room for vCPU \(id)")
    for runner in runners { precondition(runner.id != id, "there is a vCPU \(id) already") }
    // The thread starts up while KVM makes the vCPU.
    let worker = try WorkerThread(name: "guest-vcpu\(id)")
    do {
      let vcpu = try vm.createVCPU(id: UInt32(id))
      if options.dirtyRing != nil {
        rings.append((id, try DirtyRing(of: vcpu, byteCount: Self.dirtyRingSize)))
      }
      let isKVMs = options.clock == nil
      if enforcement == .beforeCPUID, isKVMs { try Self.enforceCPUID(on: vcpu) }
      try vcpu.setCPUID(cpuid)
      if enforcement == .afterCPUID, isKVMs { try Self.enforceCPUID(on: vcpu) }
      options.clock?.vcpuCreated(
        id, vcpu, features: cpuid.first { $0.function == 0x4000_0001 }?.eax,
        isConfined: enforcement != .none)
      runners.append(VCPURunner(id: id, vcpu: vcpu, worker: worker, options: options))
    } catch {
      worker.stop()
      throw .kvm(error)
    }
  }

  private static func enforceCPUID(on vcpu: borrowing VCPU) throws(KVMError) {
    try vcpu.enableCapability(.enforcePVFeatureCPUID, arguments: [1])
  }

  /// The ids of the vCPUs, in order.
  public var vcpus: [Int] { runners.map(\.id).sorted() }

  /// Puts a vCPU at the first instruction of an image.
  public func boot(_ vcpu: Int, _ image: GuestImage) throws(MachineError) {
    memory.write(image.bytes, at: Int(image.address))
    // Some Intel processors need three pages of their own for real mode; other backends refuse or ignore them.
    if image.mode == .real { try? vm.setTSSAddress(Layout.realModeTaskState) }
    let state = BootState(vcpu: vcpu, image: image)
    state.prepare(memory)
    try runner(vcpu).boot(state)
    options.sabotage?.afterBoot(vcpu, image, memory)
  }

  /// Has the agent on a vCPU do one thing.
  public func ask(
    _ vcpu: Int, _ request: GuestRequest
  ) throws(MachineError) -> Bracketed<GuestReply> {
    try begin(vcpu, request)
    return try finish(vcpu)
  }

  /// Starts a guest with a request; it runs beside the caller until `finish`.
  public func begin(_ vcpu: Int, _ request: GuestRequest) throws(MachineError) {
    Mailbox(vcpu: vcpu).post(request, in: memory)
    try runner(vcpu).beginRun()
  }

  /// Puts a vCPU into KVM's own HLT, where it stays until `wake`; needs the irqchip.
  public func halt(_ vcpu: Int) throws(MachineError) {
    _ = try withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setMPState(.halted) }
    try begin(vcpu, .nothing())
  }

  /// Takes a vCPU out of HLT and lets its guest run; whether it was halted until now.
  public func wake(_ vcpu: Int) throws(MachineError) -> (
    wasHalted: Bool, reply: Bracketed<GuestReply>
  ) {
    guard try runner(vcpu).recall() else { return (false, try finish(vcpu)) }
    _ = try withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setMPState(.runnable) }
    try runner(vcpu).beginRun()
    return (true, try finish(vcpu))
  }

  /// Asks a guest's loop to end early.
  public func stopLoop(_ vcpu: Int) { Mailbox(vcpu: vcpu).stop(in: memory) }

  /// Waits for the doorbell.
  public func finish(_ vcpu: Int) throws(MachineError) -> Bracketed<GuestReply> {
    let run = try runner(vcpu).finishRun()
    var reply = try Mailbox(vcpu: vcpu).reply(in: memory, vcpu: vcpu)
    if let scaling = options.clock?.scaling {
      reply.reading.tsc = scaling.guestTSC(reply.reading.tsc, vcpu)
    }
    return Bracketed(began: run.began, ended: run.ended, value: reply)
  }

  /// Makes the shared page ready for so many contenders.
  public func openRace(of count: Int) {
    memory.fill(0, at: Int(Layout.shared), count: Int(Layout.pageSize))
    memory.store32(UInt32(count), at: Int(Layout.shared) + Int(RACE_EXPECTED))
  }

  /// Whether so many contenders say that they met enough values of others: a hint, when to stop them.
  public func isRaceDone(of count: Int) -> Bool {
    memory.load32(at: Int(Layout.shared) + Int(RACE_DONE)) >= UInt32(count)
  }

  /// What the loop that ran last on a vCPU counted.
  public func loop(_ vcpu: Int) -> GuestLoop { Mailbox(vcpu: vcpu).loop(in: memory) }

  /// The stretches that the loop which ran last on a vCPU left in its trace.
  public func trace(_ vcpu: Int) -> [GuestStretch] { Mailbox(vcpu: vcpu).trace(in: memory) }

  /// Calls KVM for a vCPU, on that vCPU's thread.
  public func withVCPU<Value: Sendable>(
    _ vcpu: Int, _ body: @escaping @Sendable (inout VCPU) throws(KVMError) -> Value
  ) throws(MachineError) -> Bracketed<Value> {
    try runner(vcpu).perform(body)
  }

  /// The clock record at a guest-physical address, while its vCPU is out of the guest.
  public func record(at address: UInt64) -> ClockPage {
    guard let bytes = space.read(address, count: ClockPage.size) else {
      preconditionFailure("no memory stands at 0x\(String(address, radix: 16))")
    }
    return ClockPage(bytes: bytes)!
  }

  private func runner(_ vcpu: Int) -> VCPURunner {
    for runner in runners where runner.id == vcpu { return runner }
    preconditionFailure("the machine has no vCPU \(vcpu)")
  }
}
