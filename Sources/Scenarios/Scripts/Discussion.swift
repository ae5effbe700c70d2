public import ABIChecker
public import KVM
internal import VMBuilder

extension Runner {
  /// Runs a guest of the discussion of 2015.
  ///
  /// - Throws: `KVMError` if the device can't be used at all.
  public static func record(
    _ guest: DiscussionGuest, _ plan: RunPlan, host facts: HostFacts,
    cancellation: Cancellation = Cancellation()
  ) throws(KVMError) -> History {
    let stage = Stage(
      named: "discussion-\(guest.id)", host: try Host(plan, facts), seed: plan.seed, attempt: 1,
      cancellation: cancellation)
    do { try guest.run(on: stage) } catch { stage.noteFailure(error) }
    stage.dropMachine()
    return stage.history
  }
}

extension DiscussionGuest {
  fileprivate func run(on stage: Stage) throws {
    let features = stage.host.clock?.features ?? 0
    try stage.makeMachine(features: { $0 | features })
    // The VM has been up for an hour, and its guest will run for another one before it writes again: a restart is no small
    // thing, however busy this machine is.
    try stage.setClock(Self.uptime)
    switch self {
    case .sles10: try rewrite(stage, MSR.systemTimeOld)
    case .rewriter: try rewrite(stage, MSR.systemTime)
    case .replug:
      for vcpu in [0, 1] { try stage.register(vcpu) }
      try replug(stage) { try stage.register(0) }
    case .oldMSR:
      for vcpu in [0, 1] { try stage.register(vcpu, MSR.systemTimeOld) }
      for vcpu in [0, 1] { try stage.read(vcpu) }
    case .optIn: try optIn(stage, again: false)
    case .optInAgain: try optIn(stage, again: true)
    default:
      for vcpu in [0, 1] { try stage.register(vcpu) }
      if lag == 0 { for vcpu in [0, 1] { try stage.read(vcpu) } }
    }
  }

  private func rewrite(_ stage: Stage, _ msr: UInt32) throws {
    try stage.register(0, msr)
    try stage.setClock(2 * Self.uptime)
    for _ in 0..<2 {
      try stage.read(0)
      try stage.register(0, msr)
    }
    try stage.boot(0, .rewriter)
    try stage.machine.begin(0, .rewrite(msr, stage.records[0]! | 1, count: 200))
    try stage.finishLoop(0, .rewriter)
  }

  private func replug(_ stage: Stage, _ register: () throws -> Void) throws {
    try stage.setClock(2 * Self.uptime)
    for vcpu in [0, 1] { try stage.read(vcpu) }
    try stage.hostWriteMSR(0, MSR.systemTime, 0)
    stage.note(.replugged(vcpu: 0, how: .userSpace))
    try stage.boot(0, .agentLong)
    try register()
    for vcpu in [1, 0] { try stage.read(vcpu) }
  }

  /// Asks where CPUID says that it may.
  private func optIn(_ stage: Stage, again: Bool) throws {
    let leaf = try stage.machine.ask(0, .cpuid(0x4000_0001)).value.result0
    let mayAsk = UInt32(truncatingIfNeeded: leaf) & Self.optInFeature != 0
    try stage.register(0, asking: mayAsk)
    try stage.register(1)
    try replug(stage) { try stage.register(0, asking: mayAsk && again) }
  }
}

extension Stage {
  /// Registers as `register` does, and asks for a clock from zero.
  fileprivate func register(_ vcpu: Int, asking: Bool) throws {
    let address = records[vcpu] ?? placeRecord(of: vcpu)
    let value = address | 1 | (asking ? DiscussionGuest.optInRequest : 0)
    let reply = try machine.ask(vcpu, .writeMSR(MSR.systemTime, value, thenReadClockAt: address))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .wroteMSR(
        msr: Hex(MSR.systemTime), value: Hex(value), fault: Fault(reply.value.fault)))
    records[vcpu] = address
    recordReading(vcpu, 0, address, reply)
  }
}
