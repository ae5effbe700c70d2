internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// SETCLOCK-REACHES-RUNNING, STABLE-REACHES-RUNNING, RUNNING-ONE-PAIR: the clock is set, and the master clock goes and
  /// comes, while vCPUs read in ring 3 and none leaves by itself.
  @Sendable static func running(_ stage: Stage) throws {
    try stage.makeMachine()
    try stage.spread()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.settleAndLook()
    let hour: UInt64 = 3_600_000_000_000
    try read(stage, on: [0, 1]) {
      for round in 1...24 as ClosedRange<UInt64> {
        try stage.setClock(round * hour + stage.random.next() >> 24)
        // Twice, so that both read on each side of some moment where they take turns.
        for _ in 0..<2 { try waitForReaders(stage, [0, 1]) }
      }
    }
    try stage.boot(0, .agentLong)
    try read(stage, on: [1]) {
      for _ in 0..<6 {
        for msr in [MSR.systemTimeOld, MSR.systemTime] {
          try stage.register(0, msr)
          try waitForReaders(stage, [1])
        }
      }
      try stage.enter(0)
    }
  }

  /// These vCPUs read their own records without pause while the host does its work.
  private static func read(_ stage: Stage, on vcpus: [Int], while work: () throws -> Void) throws {
    for vcpu in vcpus {
      try stage.boot(vcpu, .torn)
      try stage.machine.begin(vcpu, .sample(stage.records[vcpu]!))
    }
    try waitForReaders(stage, vcpus)
    let result = Result { try work() }
    for vcpu in vcpus { stage.machine.stopLoop(vcpu) }
    for vcpu in vcpus { try stage.finishWatch(vcpu, .torn, of: vcpu) }
    try result.get()
  }

  /// A millisecond, and more where a reader's CPU is somebody else's: each has read something since.
  private static func waitForReaders(_ stage: Stage, _ vcpus: [Int]) throws {
    let before = vcpus.map { stage.machine.loop($0).reads }
    for _ in 0..<40 {
      try stage.sleep(milliseconds: 1)
      if zip(vcpus, before).allSatisfy({ stage.machine.loop($0).reads > $1 }) { return }
    }
  }
}
