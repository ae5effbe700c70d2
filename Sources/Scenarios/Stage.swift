internal import ABIChecker
internal import Glibc
internal import KVM
internal import PVClock
internal import VMBuilder

/// What a scenario works with: one machine at a time, and a history in which everything done to it is written down.
final class Stage {
  let host: Host
  let cancellation: Cancellation
  var history: History
  var random: SeededGenerator
  /// How many vCPUs the machine with many has.
  let vcpus: Int
  /// Where each vCPU's record is registered.
  var records: [Int: UInt64] = [:]
  private var current: Machine?
  /// The name of the machine at work, where several are alive.
  private var name: Int?
  /// The machines that are alive beside it, with their records.
  private var others: [Int: (machine: Machine, records: [Int: UInt64])] = [:]
  private var cpuid: [CPUIDEntry]
  /// Where KVM's features stand in it.
  private var featuresLeaf: UInt32 = 0x4000_0001

  convenience init(
    _ scenario: ScenarioName, host: Host, seed: UInt64, attempt: Int, cancellation: Cancellation,
    vcpus: Int = RunPlan.usualVCPUs
  ) {
    self.init(
      named: scenario.rawValue, host: host, seed: seed, attempt: attempt,
      cancellation: cancellation, vcpus: vcpus)
  }

  init(
    named scenario: String, host: Host, seed: UInt64, attempt: Int, cancellation: Cancellation,
    vcpus: Int = RunPlan.usualVCPUs
  ) {
    self.host = host
    self.cancellation = cancellation
    self.cpuid = host.cpuid
    self.vcpus = vcpus
    history = History(
      header: Header(scenario: scenario, seed: seed, attempt: attempt, host: host.facts))
    random = SeededGenerator(seed: seed, scenario: scenario)
  }

  /// The machine that `makeMachine` made last.
  var machine: Machine {
    guard let current else { preconditionFailure("a scenario makes a machine first") }
    return current
  }

  func record(_ actor: Actor, _ began: Moment, _ ended: Moment, _ action: Action) {
    history.events.append(
      Event(
        number: history.events.count + 1, actor: actor,
        began: Instant(tsc: began.tsc, raw: began.raw),
        ended: Instant(tsc: ended.tsc, raw: ended.raw), action: action, machine: name))
  }

  /// Writes down why the scenario can't go on.
  func noteFailure(_ error: any Error) {
    let refusal = KVMError(in: error)
    // KVM_GET_TSC_KHZ has an EIO of its own.
    if let refusal, refusal.errnoName == "EIO", refusal.request != "KVM_GET_TSC_KHZ" {
      note(.killed(request: refusal.request))
    }
    note(.failed(reason: "\(error)"))
  }

  /// Does something as the host, and writes down when.
  func note<Value, Failure: Error>(
    _ action: (Value) -> Action, of body: () throws(Failure) -> Value
  ) throws(Failure) -> Value {
    let began = Moment.before()
    let value = try body()
    record(.host, began, .after(), action(value))
    return value
  }

  func note(_ action: Action) {
    let began = Moment.before()
    record(.host, began, .after(), action)
  }

  /// KVM refused something that a rule needs: that rule is not tested, and this is why.
  func lacks(_ what: String, _ evidence: String) {
    note(.lacking(what: what, evidence: evidence))
  }
}

// MARK: Machines

extension Stage {
  /// Drops the machine before, if any, and makes a new one whose vCPUs run the long-mode agent.
  func makeMachine(
    vcpus: [Int] = [0, 1], highest: Int? = nil, irqchip: Bool = false, hyperV: Bool = false,
    dirtyRing: Capability? = nil, patience: Int = 5000, features: ((UInt32) -> UInt32)? = nil
  ) throws {
    current = nil
    records = [:]
    cpuid = hyperV ? Self.withHyperV(host.cpuid) : host.cpuid
    featuresLeaf = hyperV ? 0x4000_0101 : 0x4000_0001
    if let features, let leaf = cpuid.firstIndex(where: { $0.function == 0x4000_0001 }) {
      cpuid[leaf].eax = features(cpuid[leaf].eax)
    }
    let cancellation = cancellation
    current = try note(
      { _ in .vmCreated },
      of: {
        try Machine(
          on: host.system, cpuid: cpuid,
          Machine.Options(
            vcpus: [], highest: max(highest ?? 0, vcpus.max() ?? 0), hasIRQChip: irqchip,
            dirtyRing: dirtyRing, deadlineMilliseconds: patience,
            isCancelled: { cancellation.isCancelled },
            clock: host.clock?.make(),
            sabotage: host.sabotage))
      })
    for vcpu in vcpus { try addVCPU(vcpu) }
  }

  /// A machine of two vCPUs with KVM's interrupt controllers, or one without; whether it has them.
  func makeMachineWithIRQChip(for what: String) throws -> Bool {
    do {
      try makeMachine(irqchip: true)
      return true
    } catch MachineError.kvm(let error) where error.request == "KVM_CREATE_IRQCHIP" {
      lacks("\(what) needs an in-kernel irqchip", "\(error)")
      try makeMachine()
      return false
    }
  }

  func addVCPU(_ vcpu: Int) throws {
    try note({ .vcpuCreated(vcpu: vcpu) }, of: { try machine.addVCPU(vcpu, cpuid: cpuid) })
    noteFeatures(vcpu)
    try boot(vcpu, .agentLong)
  }

  /// KVM_SET_CPUID2 once more, as it was.
  func setCPUIDAgain(_ vcpu: Int) throws {
    let cpuid = cpuid
    _ = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setCPUID(cpuid) }
    noteFeatures(vcpu)
  }

  private func noteFeatures(_ vcpu: Int) {
    guard let leaf = cpuid.first(where: { $0.function == featuresLeaf }) else { return }
    note(.featuresSet(vcpu: vcpu, features: Hex(leaf.eax)))
  }

  func boot(_ vcpu: Int, _ image: GuestImage) throws {
    let mode = CPUMode(rawValue: image.mode.rawValue)!
    try note(
      { .booted(vcpu: vcpu, guest: image.name, mode: mode) }, of: { try machine.boot(vcpu, image) })
  }

  func dropMachine() { (current, others) = (nil, [:]) }

  /// Makes a machine beside those that are alive, in the place of the one with its name; it is the one at work now.
  func makeMachine(named new: Int?, vcpus: [Int] = [0, 1], highest: Int? = nil) throws {
    if let new {
      if let name, name != new, let current { others[name] = (current, records) }
      others[new] = nil
      name = new
    }
    try makeMachine(vcpus: vcpus, highest: highest)
  }

  /// Puts a machine that is alive to work.
  func use(_ other: Int) {
    guard let name, let current, let next = others.removeValue(forKey: other) else { return }
    others[name] = (current, records)
    (self.name, self.current, records) = (other, next.machine, next.records)
  }

  /// Waits without a vCPU in the guest, ready to be cancelled.
  func sleep(milliseconds: Int) throws {
    let end = Moment.before().raw + UInt64(milliseconds) * 1_000_000
    while true {
      if cancellation.isCancelled { throw MachineError.cancelled }
      let now = Moment.before().raw
      guard now < end else { return }
      var span = timespec(tv_sec: 0, tv_nsec: Int(min(end - now, 10_000_000)))
      nanosleep(&span, nil)
    }
  }
}

// MARK: What a guest does

extension Stage {
  /// An address for a record with at least 64 bytes of the page on both sides.
  func placeRecord(of vcpu: Int, second: Bool = false) -> UInt64 {
    Layout.clockPage(vcpu, second: second) + UInt64.random(in: 1...61, using: &random) * 64
  }

  /// Registers a record and reads it at once, in one entry.
  func register(_ vcpu: Int, _ msr: UInt32 = MSR.systemTime, at address: UInt64? = nil) throws {
    let address = address ?? records[vcpu] ?? placeRecord(of: vcpu)
    let reply = try machine.ask(
      vcpu, .writeMSR(msr, address | 1, thenReadClockAt: address))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .wroteMSR(msr: Hex(msr), value: Hex(address | 1), fault: Fault(reply.value.fault)))
    if let fault = reply.value.fault { throw Refused(vcpu: vcpu, msr: msr, fault: fault) }
    records[vcpu] = address
    recordReading(vcpu, 0, address, reply)
  }

  /// KVM_SET_MSRS did not take what a scenario can't go on without.
  private struct RefusedByHost: Error, CustomStringConvertible {
    var vcpu: Int
    var msr: UInt32
    var value: UInt64

    var description: String { "KVM_SET_MSRS refused \(Hex(value)) for \(Hex(msr)) on vcpu\(vcpu)" }
  }

  /// The guest could not register a record: nothing that a scenario does makes sense after that.
  private struct Refused: Error, CustomStringConvertible {
    var vcpu: Int
    var msr: UInt32
    var fault: GuestFault

    var description: String {
      "vcpu\(vcpu)'s WRMSR of \(Hex(msr)) raised exception vector \(fault.vector)"
    }
  }

  @discardableResult
  func writeMSR(_ vcpu: Int, _ msr: UInt32, _ value: UInt64) throws -> GuestFault? {
    let reply = try machine.ask(vcpu, .writeMSR(msr, value))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .wroteMSR(msr: Hex(msr), value: Hex(value), fault: Fault(reply.value.fault)))
    return reply.value.fault
  }

  @discardableResult
  func readMSR(_ vcpu: Int, _ msr: UInt32) throws -> UInt64 {
    let reply = try machine.ask(vcpu, .readMSR(msr))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .readMSR(msr: Hex(msr), value: Hex(reply.value.result0), fault: Fault(reply.value.fault)))
    return reply.value.result0
  }

  /// A clock read of the vCPU's own record.
  func read(_ vcpu: Int, ring: Int = 0) throws {
    let address = records[vcpu]!
    recordReading(vcpu, ring, address, try machine.ask(vcpu, .readClock(at: address, ring: ring)))
  }

  func recordReading(
    _ vcpu: Int, _ ring: Int, _ address: UInt64, _ reply: Bracketed<GuestReply>
  ) {
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .read(
        address: Hex(address), ring: ring, reading: Reading(reply.value.reading),
        settled: reply.value.status == .done))
  }

  func enter(_ vcpu: Int) throws {
    let reply = try machine.ask(vcpu, .nothing())
    record(.vcpu(vcpu), reply.began, reply.ended, .entered)
  }

  /// Leaves the vCPU in KVM's own HLT until `wake`.
  func halt(_ vcpu: Int) throws {
    try note({ .halted(vcpu: vcpu) }, of: { try machine.halt(vcpu) })
  }

  /// Whether the vCPU was halted until now.
  func wake(_ vcpu: Int) throws -> Bool {
    let (wasHalted, reply) = try machine.wake(vcpu)
    record(.vcpu(vcpu), reply.began, reply.ended, .entered)
    return wasHalted
  }

  /// Has the guest overwrite 32 bits of its memory.
  func poke(_ vcpu: Int, _ address: UInt64, _ value: UInt32) throws {
    let reply = try machine.ask(vcpu, .store32(value, at: address))
    record(
      .vcpu(vcpu), reply.began, reply.ended, .poked(address: Hex(address), value: Hex(value)))
  }

  /// Waits for a guest's loop and writes down what it counted.
  func finishLoop(_ vcpu: Int, _ guest: GuestImage) throws {
    let reply = try machine.finish(vcpu)
    guard reply.value.status == .done else {
      throw MachineError.mailboxUnreadable(
        vcpu: vcpu, reason: "\(guest.name) ended with \(reply.value.status)")
    }
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .looped(guest: guest.name, result: LoopResult(machine.loop(vcpu), of: guest)))
  }
}

// MARK: What the host does and sees

extension Stage {
  @discardableResult
  func getClock() throws -> ClockRecord {
    try note({ .getClock($0) }, of: { ClockRecord(try machine.clock()) })
  }

  func setClock(_ value: UInt64) throws {
    try note(
      { .setClock(ClockRecord(clock: value)) },
      of: { try machine.setClock(ClockData(clock: value)) })
  }

  /// Looks at a record while its vCPU is out of the guest.
  func look(_ vcpu: Int, at address: UInt64? = nil) {
    let address = address ?? records[vcpu]!
    _ = note(
      { .page(vcpu: vcpu, address: Hex(address), page: $0) }, of: { machine.record(at: address) })
  }

  /// Looks at a record and 64 bytes on both sides.
  func lookAround(_ vcpu: Int) {
    let start = records[vcpu]! - 64
    _ = note(
      { .memory(address: Hex(start), bytes: HexBytes($0)) },
      of: { machine.memory.read(at: Int(start), count: 160) })
  }

  func fillClockPage(_ vcpu: Int, second: Bool = false, with byte: UInt8 = 0xa5) {
    let page = Layout.clockPage(vcpu, second: second)
    note(
      { .filled(address: Hex(page), count: 4096, byte: Hex(UInt64(byte))) },
      of: { machine.memory.fill(byte, at: Int(page), count: 4096) })
  }

  /// What rules that convert between TSC and time need to know of a vCPU.
  func noteTSC(_ vcpu: Int) throws {
    let frequency = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.tscKHz() }
    record(.host, frequency.began, frequency.ended, .tscKHz(vcpu: vcpu, kHz: frequency.value))
    try noteTSCOffset(vcpu)
  }

  /// The vCPU's TSC offset in cycles; nil where the kernel does not tell.
  @discardableResult
  func noteTSCOffset(_ vcpu: Int) throws -> UInt64? {
    let offset = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in
      try vcpu.hasTSCOffset() ? try vcpu.tscOffset() : nil
    }
    if let cycles = offset.value {
      record(.host, offset.began, offset.ended, .tscOffset(vcpu: vcpu, cycles: cycles))
    } else {
      lacks("KVM_VCPU_TSC_OFFSET", "KVM_HAS_DEVICE_ATTR says no")
    }
    return offset.value
  }

  func hostReadMSR(_ vcpu: Int, _ msr: UInt32) throws -> UInt64 {
    let read = try machine.msr(msr, of: vcpu)
    record(
      .host, read.began, read.ended,
      .hostReadMSR(vcpu: vcpu, msr: Hex(msr), value: Hex(read.value)))
    return read.value
  }

  func hostWriteMSR(_ vcpu: Int, _ msr: UInt32, _ value: UInt64) throws {
    let write = try machine.setMSR(msr, value, of: vcpu)
    guard write.value else { throw RefusedByHost(vcpu: vcpu, msr: msr, value: value) }
    record(
      .host, write.began, write.ended,
      .hostWroteMSR(vcpu: vcpu, msr: Hex(msr), value: Hex(value)))
  }

  /// Of many brackets around the same call, writes down the tightest.
  func tightest(_ tries: Int = 64, _ action: () throws -> Action) throws {
    var best: (began: Moment, ended: Moment, action: Action)?
    for _ in 0..<tries {
      let began = Moment.before()
      let done = try action()
      let ended = Moment.after()
      if best.map({ ended.raw - began.raw < $0.ended.raw - $0.began.raw }) ?? true {
        best = (began, ended, done)
      }
    }
    if let best { record(.host, best.began, best.ended, best.action) }
  }
}
