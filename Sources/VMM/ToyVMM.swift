package import ABIChecker
internal import Glibc
internal import GuestImages
package import KVM
internal import VMBuilder

/// A VMM as small as it can be that pauses, saves, restores, migrates, resets and plugs: in this process, with one switch for each
/// fault. It shows that each rule about VMMs can fail, and how a VMM does it right.
package final class ToyVMM: VirtualMachineMonitor {
  package let verbs = Set(VMMVerb.allCases)
  package var name: String {
    fault.map { "a toy VMM with the fault \($0.rawValue)" } ?? "a toy VMM"
  }
  let fault: ToyFault?
  let entry: GuestEntry
  let system: KVMSystem
  private let isCancelled: () -> Bool
  /// Called between two steps: what a busy host does to a VMM, in tests.
  fileprivate let between: () -> Void
  /// What stands in for files, and for sockets.
  fileprivate var states: [String: ToyState] = [:]
  fileprivate var targets: [String: ToyMachine] = [:]
  /// What faults need to remember: the first save's clock, when each file was restored first, all machines.
  fileprivate var firstClock: UInt64?
  fileprivate var firstRestores: [String: UInt64] = [:]
  fileprivate var machines: [ToyMachine] = []

  package init(
    _ fault: ToyFault? = nil, entry: GuestEntry = .protected,
    isCancelled: @escaping () -> Bool = { false }, between: @escaping () -> Void = {}
  ) throws(KVMError) {
    self.fault = fault
    self.entry = entry
    self.isCancelled = isCancelled
    self.between = between
    system = try KVMSystem()
  }

  package func start(
    vcpus: Int, spare: Int, from origin: Origin
  ) throws(VMMError) -> any MonitoredMachine {
    do throws(KVMError) {
      let machine = try ToyMachine(self, vcpus: vcpus, isCancelled: isCancelled)
      if fault == .resumeSetsOthers { machines.append(machine) }
      switch origin {
      case .boot:
        try machine.boot()
        machine.run()
      case .file(let path):
        guard var state = states[path] else {
          throw KVMError(request: "open \(path)", errno: ENOENT, remedy: nil)
        }
        if fault == .firstSaveRestored { state.clock = firstClock ?? state.clock }
        if fault == .secondRestoreLate {
          let now = Moment.before().raw
          state.clock += now - firstRestores[path, default: now]
          firstRestores[path] = firstRestores[path] ?? now
        }
        try machine.load(state, for: .restore)
      case .migration(let place): targets[place] = machine
      }
      return machine
    } catch {
      throw .refused(verb: .start, reason: "\(error)")
    }
  }
}

/// How the guest is entered: flat from real mode, by PVH in protected mode, or in long mode as Linux's 64-bit boot protocol has it.
package enum GuestEntry: CaseIterable {
  case real, protected, long
}

/// What a VMM takes along.
struct ToyState {
  struct CPU {
    var registers: Registers
    var special: SpecialRegisters
    var mpState: MPState
    var tsc: UInt64
    var systemTime: UInt64
  }

  var memory: [UInt8]
  var vcpus: [CPU]
  var clock: UInt64
  /// CLOCK_MONOTONIC_RAW when it was saved, in nanoseconds.
  var at: UInt64
}

final class ToyMachine: MonitoredMachine {
  let uart = ToyUART()
  let monitor: ToyVMM
  private let vm: VirtualMachine
  let memory: GuestMemory
  private(set) var vcpus: [ToyVCPU] = []
  /// vCPUs that were unplugged: KVM has no way to end one.
  private var parked: [ToyVCPU] = []
  private let isCancelled: () -> Bool
  private var isPaused = true
  private var pauses = 0
  private var pausedAt: (clock: UInt64, raw: UInt64)?
  private var lastSet: UInt64?
  /// The clock of the last pause, and whether this machine came by a migration: what faults need to remember.
  private var lastPause: UInt64?
  private var hasMigrated = false
  private var plugs = 0
  private var hasPlugged = false

  private var fault: ToyFault? { monitor.fault }

  package var console: Console {
    Console(
      Console.Line(
        send: { [self] text in
          before(request: text)
          uart.send(text)
          return true
        }, receive: { [self] in uart.receive(within: $0) }), isCancelled: isCancelled)
  }

  fileprivate init(_ monitor: ToyVMM, vcpus count: Int, isCancelled: @escaping () -> Bool)
    throws(KVMError)
  {
    self.monitor = monitor
    self.isCancelled = isCancelled
    vm = try monitor.system.createVM()
    try vm.setIdentityMapAddress(0xfffb_c000)
    try vm.setTSSAddress(0xfffb_d000)
    try vm.createIRQChip()
    memory = try GuestMemory(size: Int(VMM_MEMORY_END))
    try vm.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)
    for _ in 0..<count { try addVCPU() }
  }

  deinit { quit() }

  private func addVCPU() throws(KVMError) {
    let number = vcpus.count
    let vcpu = try vm.createVCPU(id: UInt32(number))
    var cpuid = try monitor.system.supportedCPUID()
    for index in cpuid.indices {
      // The APIC id stands in CPUID as well.
      if cpuid[index].function == 1 {
        cpuid[index].ebx = cpuid[index].ebx & 0xff_ffff | UInt32(number) << 24
      }
      if cpuid[index].function == 0xb { cpuid[index].edx = UInt32(number) }
    }
    try vcpu.setCPUID(cpuid)
    // Until a VMM sets it, KVM's map of APIC ids does not have this vCPU, and no INIT reaches it.
    try vcpu.setLAPIC(try vcpu.lapic())
    vcpus.append(try ToyVCPU(number, vcpu, uart))
  }

  fileprivate func run() {
    isPaused = false
    for cpu in vcpus {
      monitor.between()
      cpu.run()
    }
  }

  private func halt() {
    for cpu in vcpus {
      monitor.between()
      cpu.stop()
    }
    isPaused = true
  }

  /// Something that KVM refuses is something that this VMM refuses.
  private func trying<Value>(
    _ verb: VMMVerb, _ body: () throws(KVMError) -> Value
  ) throws(VMMError) -> Value {
    do throws(KVMError) { return try body() } catch {
      throw .refused(verb: verb, reason: "\(error)")
    }
  }

  private func tellStopped(_ numbers: some Sequence<Int>) throws(KVMError) {
    for number in numbers where number < vcpus.count {
      monitor.between()
      do throws(KVMError) { try vcpus[number].vcpu.markGuestPaused() } catch {
        // EINVAL: no record is registered there.
        if error.errno != EINVAL { throw error }
      }
    }
  }

  private func setClock(_ value: UInt64) throws(KVMError) {
    monitor.between()
    try vm.setClock(ClockData(clock: value))
    lastSet = value
    monitor.between()
  }

  private func clock() throws(KVMError) -> UInt64 {
    monitor.between()
    defer { monitor.between() }
    return try vm.clock().clock
  }

  private static var raw: UInt64 { Moment.before().raw }

  // MARK: Verbs

  func pause() throws(VMMError) {
    try trying(.pause) { () throws(KVMError) -> Void in
      if isPaused, fault != .secondPauseSaves { return }
      let early = try clock()
      if fault == .clockSavedEarly { usleep(20_000) }
      halt()
      pauses += 1
      let clock = fault == .clockSavedEarly ? early : try clock()
      (pausedAt, lastPause) = ((clock, Self.raw), clock)
      if fault == .vcpuLeftRunning { for cpu in vcpus.dropFirst() { cpu.run() } }
      if fault == .toldBeforeSave { try tellStopped(vcpus.indices) }
    }
  }

  func resume() throws(VMMError) {
    try trying(.resume) { () throws(KVMError) in
      if fault == .vcpuLeftRunning, isPaused { halt() }
      if fault == .resumeSetsClock, let lastPause { try setClock(lastPause) }
      if fault == .resumeSetsOthers, let clock = pausedAt?.clock {
        for machine in monitor.machines { try machine.setClock(clock) }
      }
      if let (clock, at) = pausedAt {
        let gap = Self.raw - at
        switch fault {
        case .pauseNowAndThen where pauses.isMultiple(of: 2): break
        case .pauseHalf: try setClock(clock + gap / 2)
        case .pauseLeaps: try setClock(clock + gap + 1_000_000_000)
        case .migrationCountsTwice where hasMigrated: try setClock(clock + 2 * gap)
        default: try setClock(clock)
        }
        switch fault {
        case .pauseUntold, .toldBeforeSave, .restoreUntold: break
        case .toldOnOneVCPU: try tellStopped([0])
        default: try tellStopped(vcpus.indices)
        }
      }
      pausedAt = nil
      if isPaused { run() }
    }
  }

  func save(to path: String) throws(VMMError) {
    let saved = try trying(.save) { () throws(KVMError) in try state() }
    monitor.states[path] = saved
    monitor.firstClock = monitor.firstClock ?? saved.clock
  }

  private func state() throws(KVMError) -> ToyState {
    let clock = try clock()
    var saved: [ToyState.CPU] = []
    for cpu in vcpus {
      saved.append(
        ToyState.CPU(
          registers: try cpu.vcpu.registers(), special: try cpu.vcpu.specialRegisters(),
          mpState: try cpu.vcpu.mpState(), tsc: try cpu.vcpu.msr(MSR.tsc),
          systemTime: try cpu.vcpu.msr(MSR.systemTime)))
    }
    return ToyState(
      memory: memory.read(at: 0, count: memory.size), vcpus: saved,
      clock: fault == .clockSavedLate ? clock : pausedAt?.clock ?? clock, at: Self.raw)
  }

  fileprivate func load(_ state: ToyState, for verb: VMMVerb) throws(KVMError) {
    memory.write(state.memory, at: 0)
    while vcpus.count < state.vcpus.count { try addVCPU() }
    for (cpu, saved) in zip(vcpus, state.vcpus) {
      try cpu.vcpu.setSpecialRegisters(saved.special)
      try cpu.vcpu.setRegisters(saved.registers)
      try cpu.vcpu.setMPState(saved.mpState)
      if fault == .tscsApart, cpu.number > 0 {
        try cpu.vcpu.setMSR(MSR.tsc, to: saved.tsc &+ 5_000_000_000 &* UInt64(cpu.number))
      } else if fault == .tscGoesBack {
        try cpu.vcpu.setMSR(MSR.tsc, to: 1)
      } else {
        try cpu.vcpu.setMSR(MSR.tsc, to: saved.tsc)
      }
      switch (fault, cpu.number) {
      case (.recordsLost?, _), (.recordLostOnOneVCPU?, 1): break
      default: try cpu.vcpu.setMSR(MSR.systemTime, to: saved.systemTime)
      }
      if fault == .frequencyLost || fault == .frequencyOnOneVCPU && cpu.number == 1 {
        try cpu.vcpu.setTSCKHz(try cpu.vcpu.tscKHz() / 2 * 3)
      }
    }
    if fault == .vcpusRunFirst {
      run()
      usleep(20_000)
      halt()
    }
    let gap = Self.raw - state.at
    switch fault {
    case .clockNotSet where verb == .restore: break
    case .migrationClockNotSet where verb == .migrate: break
    case .clockCountsGap where verb == .restore: try setClock(state.clock + gap)
    case .migrationLeaps where verb == .migrate: try setClock(state.clock + 10_000_000_000)
    case .migrationGoesBack where verb == .migrate: try setClock(state.clock - 50_000_000)
    default: try setClock(state.clock)
    }
    if fault == .clockSetTwice {
      run()
      usleep(20_000)
      halt()
      try setClock(state.clock)
    }
    if fault != .restoreUntold, fault != .toldBeforeSave {
      try tellStopped(fault == .toldOnOneVCPU ? [0] : Array(vcpus.indices))
    }
    // Until it is resumed, its clock stands still as in any pause, at what was set: what the rest of the restore took is no
    // time of the guest's.
    if verb == .restore, fault != .runsAfterRestore {
      let frozen = if let lastSet { lastSet } else { try clock() }
      pausedAt = (frozen, Self.raw)
    }
  }

  func awaitState() throws(VMMError) {}

  func migrate(to place: String) throws(VMMError) {
    try trying(.migrate) { () throws(KVMError) in
      halt()
      guard let target = monitor.targets[place] else {
        if fault == .failedMigrationLeaps {
          try setClock(try clock() + 5_000_000_000)
        }
        run()
        throw KVMError(request: "connect \(place)", errno: ECONNREFUSED, remedy: nil)
      }
      try target.load(try state(), for: .migrate)
      target.pausedAt = pausedAt
      target.hasMigrated = true
      if pausedAt == nil { target.run() }
    }
  }

  func reset() throws(VMMError) {
    try trying(.reset) { () throws(KVMError) in
      halt()
      try boot()
      if fault == .resetRestartsClock { try setClock(0) }
      run()
    }
  }

  func plug() throws(VMMError) {
    if fault == .endsAtReplug, plugs > 0 { throw .ended(how: "exit status 1", said: "a toy may") }
    try trying(.plug) { () throws(KVMError) in
      plugs += 1
      if let cpu = parked.popLast() {
        vcpus.append(cpu)
      } else {
        try addVCPU()
      }
      let cpu = vcpus[vcpus.count - 1]
      try reset(cpu)
      if fault == .pluggedTSCApart {
        try cpu.vcpu.setMSR(MSR.tsc, to: try cpu.vcpu.msr(MSR.tsc) &+ 5_000_000_000)
      }
      hasPlugged = true
      switch fault {
      case .plugRestartsClock: try setClock(0)
      case .replugRestartsClock where plugs > 1: try setClock(0)
      default: break
      }
      cpu.run()
    }
  }

  func unplug() throws(VMMError) {
    guard vcpus.count > 1 else { throw .refused(verb: .unplug, reason: "nothing is plugged") }
  }

  func awaitUnplugged() throws(VMMError) {
    hasPlugged = false
    guard let cpu = vcpus.popLast() else { return }
    cpu.stop()
    parked.append(cpu)
  }

  func quit() {
    for cpu in vcpus { cpu.end() }
    for cpu in parked { cpu.end() }
    (vcpus, parked) = ([], [])
  }

  // MARK: Faults at a time when a VMM has nothing to do

  private func before(request: String) {
    do throws(KVMError) {
      switch (fault, request) {
      case (.clockSetWhileIdle?, "r"):
        try setClock(try clock() + 2_000_000_000)
      case (.rewriteRestartsClock?, "w"), (.rewriteRestartsClock?, "o"): try setClock(0)
      case (.toldWhileRunning?, "r"):
        // KVM_KVMCLOCK_CTRL waits for a vCPU that is in KVM_RUN.
        for cpu in vcpus { cpu.stop() }
        try tellStopped(vcpus.indices)
        for cpu in vcpus { cpu.run() }
      case (.pluggedRecordForgotten?, "r") where hasPlugged:
        guard let cpu = vcpus.last else { return }
        cpu.stop()
        try cpu.vcpu.setMSR(MSR.systemTime, to: 0)
        try setClock(try clock() + 500_000_000)
        cpu.run()
        hasPlugged = false
      default: break
      }
    } catch {}
  }
}
