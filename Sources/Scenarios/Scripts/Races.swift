internal import ABIChecker
internal import PVClock
internal import VMBuilder

extension Scenario {
  private static let hour: UInt64 = 3_600_000_000_000

  /// VERSION-NO-TORN, VERSION-MONO: vCPU 1 reads vCPU 0's record while the host changes every field of it by hours.
  @Sendable static func torn(_ stage: Stage) throws {
    try stage.makeMachine()
    try stage.spread()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.boot(1, .torn)
    try stage.machine.begin(1, .sample(stage.records[0]!))
    try stage.awaitReader(1)
    for round in 1...600 as ClosedRange<UInt64> {
      try stage.setClock(round * hour + stage.random.next() >> 24)
      try stage.enter(0)
      stage.look(0)
      guard round >= 220 else { continue }
      // On a busy host the reader's CPU may be somebody else's all the while: it is given time, and more updates.
      if stage.machine.loop(1).reads >= 10_000, stage.machine.trace(1).count >= 22 { break }
      try stage.sleep(milliseconds: 1)
    }
    stage.machine.stopLoop(1)
    try stage.finishWatch(1, .torn, of: 0)
  }

  /// MONO-CROSS-VCPU, VSYSCALL-PAGE0-ON-VCPU1, MONO-CROSS-NOSTABLE: races from each vCPU's own record, from vCPU 0's,
  /// and without the master clock.
  @Sendable static func contend(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: Array(0..<stage.racers))
    try stage.spread()
    let vcpus = stage.machine.vcpus
    for vcpu in vcpus { try stage.register(vcpu) }
    try settle(stage)
    try stage.race(1)
    try stage.race(2, owner: 0)
    try stage.register(0, MSR.systemTimeOld)
    try settle(stage)
    try stage.race(3)
  }

  /// STABLE-UNENTERED: the clock is set, and only one of two vCPUs enters; the other one is in user space, then in KVM's own
  /// HLT.
  @Sendable static func unentered(_ stage: Stage) throws {
    let hasHLT = try stage.makeMachineWithIRQChip(for: "KVM's own HLT")
    for _ in 0..<2 {
      for vcpu in [0, 1] { try stage.register(vcpu) }
    }
    // An hour on each time, so that every run says the same.
    var time: UInt64 = 0
    func setAndLook(_ vcpu: Int, _ other: Int) throws {
      time += hour
      try stage.setClock(time)
      try stage.enter(other)
      for each in [other, vcpu] { stage.look(each) }
    }
    for (vcpu, other) in [(0, 1), (1, 0)] {
      try setAndLook(vcpu, other)
      try stage.enter(vcpu)
      stage.look(vcpu)
      guard hasHLT else { continue }
      try stage.halt(vcpu)
      try setAndLook(vcpu, other)
      try stage.sleep(milliseconds: 2)
      for each in [other, vcpu] { stage.look(each) }
      guard try stage.wake(vcpu) else {
        return stage.lacks("KVM's own HLT", "the vCPU went on by itself")
      }
      stage.look(vcpu)
    }
  }

  /// Every vCPU has entered after the last change, and its record is known.
  private static func settle(_ stage: Stage) throws {
    // Up to Linux 6.18 all records are made anew 100 ms after a write of the MSR: not during the race, then.
    try stage.sleep(milliseconds: 120)
    for _ in 0..<2 {
      for vcpu in stage.machine.vcpus { try stage.enter(vcpu) }
    }
    for vcpu in stage.machine.vcpus { stage.look(vcpu) }
  }

  /// OLDMSR-STORM-MONO: as `storm`, through the old MSR.
  @Sendable static func oldMSRStorm(_ stage: Stage) throws {
    try storm(stage, MSR.systemTimeOld)
  }

  /// One vCPU writes without pause; the other reads its own record without pause, and watches the writer's version.
  static func storm(_ stage: Stage, _ msr: UInt32) throws {
    try stage.makeMachine()
    try stage.spread()
    try stage.register(0, msr)
    try stage.register(1)
    try stage.boot(0, .rewriter)
    try stage.boot(1, .sampler)
    let machine = stage.machine
    try machine.begin(1, .sample(stage.records[1]!, witness: stage.records[0]!))
    // Where the two seldom run at the same time, the reader needs more writes to see some of them.
    for _ in 0..<10 {
      try machine.begin(0, .rewrite(msr, stage.records[0]! | 1, count: 1000))
      try stage.finishLoop(0, .rewriter)
      if machine.loop(1).witnessed >= 50 { break }
    }
    machine.stopLoop(1)
    try stage.finishWatch(1, .sampler, of: 1)
  }

  /// SHARED-PAGE-SANE: two vCPUs register one record, and write the MSR at the same time.
  @Sendable static func sharedPage(_ stage: Stage) throws {
    try stage.makeMachine()
    try stage.spread()
    let record = stage.placeRecord(of: 0)
    for _ in 0..<6 {
      for vcpu in [0, 1] { try stage.register(vcpu, at: record) }
      for vcpu in [0, 1] { try stage.boot(vcpu, .rewriter) }
      for vcpu in [0, 1] {
        try stage.machine.begin(vcpu, .rewrite(MSR.systemTime, record | 1, count: 60))
      }
      for vcpu in [0, 1] { try stage.finishStorm(vcpu, MSR.systemTime) }
      stage.look(0)
      for vcpu in [0, 1] { try stage.boot(vcpu, .agentLong) }
    }
    for vcpu in [0, 1] { try stage.register(vcpu, at: record) }
  }

  /// HOP: vCPU 0's thread goes from CPU to CPU, with the master clock and without.
  @Sendable static func hop(_ stage: Stage) throws {
    let cpus = stage.allowedCPUs
    guard cpus.count >= 2 else {
      return stage.lacks("two CPUs to move between", "sched_getaffinity allows \(cpus)")
    }
    try stage.makeMachine(vcpus: [0])
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      try stage.register(0, msr)
      try stage.enter(0)
      for round in 0..<50 {
        try stage.move(0, to: cpus[round % cpus.count])
        try stage.read(0, ring: 3)
      }
    }
  }

  /// READ-COST: with the TSC's frequency, so that cycles become nanoseconds.
  @Sendable static func readCost(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.noteTSC(0)
    try stage.register(0)
    try stage.measure(0)
  }
}
