internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// REWRITER-KEEPS-TIME: the clock far from 0, so that a restart is a huge step; then thousands of writes.
  @Sendable static func rewriter(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    try stage.setClock(3_600_000_000_000 + stage.random.next() >> 20)
    for msr in [MSR.systemTimeOld, MSR.systemTime] {
      try stage.register(0, msr)
      try stage.boot(0, .rewriter)
      try stage.machine.begin(0, .rewrite(msr, stage.records[0]! | 1, count: 2500))
      try stage.finishLoop(0, .rewriter)
      // One more write: without the master clock the record then dates from a short entry, not from the loop.
      try stage.boot(0, .agentLong)
      try stage.register(0, msr)
    }
  }

  /// SCHEDCLOCK-CONSTANT-OFFSET, MONO-VCPU: one constant for all vCPUs, one of which comes late and one back.
  @Sendable static func schedclock(_ stage: Stage) throws {
    try stage.makeMachine(highest: 2)
    func readLoop(_ vcpu: Int, _ count: UInt64) throws {
      try stage.register(vcpu)
      try stage.boot(vcpu, .schedclock)
      try stage.machine.begin(
        vcpu,
        .readLoop(record: stage.records[vcpu]!, constantAt: Layout.shared, count: count))
      try stage.finishLoop(vcpu, .schedclock)
    }
    try readLoop(0, 1_000_000)
    try readLoop(1, 200_000)
    try stage.addVCPU(2)
    try readLoop(2, 200_000)
    try stage.hostWriteMSR(0, MSR.systemTime, 0)
    stage.note(.replugged(vcpu: 0, how: .userSpace))
    try stage.boot(0, .agentLong)
    try readLoop(0, 200_000)
  }
}
