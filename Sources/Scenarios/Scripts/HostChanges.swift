internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// STABLE-LOST-CLOCKSOURCE, CLOCKSOURCE-SWITCH-KEEPS-TIME, SETCLOCK-NONTSC, STABLE-BACK-ON-TSC: the host's
  /// clocksource goes from tsc to another one and back, while vCPU 1 reads without pause.
  @Sendable static func clocksourceSwitch(_ stage: Stage) throws {
    guard let (home, other) = stage.otherClocksource() else { return }
    try stage.makeMachine()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.settleAndLook()
    for name in [other, home] {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.boot(1, .schedclock)
      try stage.machine.begin(
        1, .readLoop(record: stage.records[1]!, constantAt: Layout.shared))
      let isSwitched = try stage.switchClocksource(to: name)
      if isSwitched { try waitForFlag(stage, isSet: name == home) }
      stage.machine.stopLoop(1)
      try stage.finishLoop(1, .schedclock)
      try stage.boot(1, .agentLong)
      guard isSwitched else { return }
      for vcpu in [0, 1] { try stage.read(vcpu) }
      // A record that was made during the loop may run ahead by all of it: others, one of them made in a short entry.
      for _ in 0..<4 {
        for vcpu in [0, 1] { try readFreshRecord(stage, vcpu) }
      }
      // The two oscillators' ratio can be told from 100 ms.
      try stage.sleep(milliseconds: 100)
      try stage.settleAndLook()
      try stage.setClock(stage.random.next() >> 8)
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.settleAndLook()
    }
  }

  /// KVM hears of the switch in a worker thread. After the way back nothing has to change before the clock is set.
  static func waitForFlag(_ stage: Stage, isSet: Bool) throws {
    guard !isSet else { return try stage.sleep(milliseconds: 20) }
    for _ in 0..<250 {
      try stage.enter(0)
      stage.look(0)
      if case .page(_, _, let page)? = stage.history.events.last?.action,
        !page.flags.contains(.tscStable)
      {
        return
      }
      try stage.sleep(milliseconds: 20)
    }
  }

  /// REALTIME-STEP-KEEPS-TIME, REALTIME-STEP-FOLLOWED: an hour forward and back, and a day back and forward.
  @Sendable static func realtimeStep(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.settleAndLook()
    let hour = 3600
    for seconds in [hour, -hour, -24 * hour, 24 * hour] {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      guard stage.stepRealtime(seconds: seconds) else {
        return stage.lacks("adjtimex", "the kernel refused to step CLOCK_REALTIME")
      }
      for vcpu in [0, 1] { try stage.read(vcpu) }
      for msr in [MSR.systemTimeOld, MSR.systemTime] {
        try stage.register(0, msr)
        for vcpu in [0, 1] { try stage.read(vcpu) }
      }
      for vcpu in [0, 1] {
        let address = stage.placeWallClock(vcpu)
        stage.fillAround(address)
        try stage.writeWallClock(vcpu, at: address)
        stage.lookAtWallClock(address)
        try stage.getClock()
        try stage.readHostClock("CLOCK_REALTIME")
      }
    }
  }

  /// RATE-NOT-NTP: with the host's clocks slewed by 500 ppm, in master-clock mode over a new snapshot, and without it.
  @Sendable static func slew(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.noteTSC(0)
    try stage.register(0)
    guard stage.slewClock(partsPerMillion: 500) else {
      return stage.lacks("adjtimex", "the kernel refused to change the clock's frequency")
    }
    // From the master clock to none, without it all the way, and back to it, which takes a new snapshot.
    for msr in [MSR.systemTimeOld, MSR.systemTimeOld, MSR.systemTime] {
      for _ in 0..<2 { try stage.readHostClock("CLOCK_MONOTONIC") }
      let before = try readFreshRecords(stage)
      let began = Moment.after().raw
      try stage.sleep(milliseconds: 500)
      try stage.register(0, msr)
      for _ in 0..<30 {
        let after = try readFreshRecords(stage)
        // The rule asks for 400 ppm between two readings.
        if (before + after) * 3000 < Moment.before().raw - began { break }
        try stage.sleep(milliseconds: 100)
      }
      try stage.readHostClock("CLOCK_MONOTONIC")
    }
  }

  /// Several times a record that is made in a short entry, for its lead is the entry's width; the rule takes the best.
  /// Returns how many nanoseconds the best one leaves open.
  private static func readFreshRecords(_ stage: Stage) throws -> UInt64 {
    var best: UInt64 = .max
    for _ in 0..<8 {
      let start = stage.history.events.count
      try readFreshRecord(stage, 0)
      best = min(
        best,
        stage.history.events[start...].filter { $0.actor == .vcpu(0) }
          .reduce(0) { $0 + ($1.ended.raw - $1.began.raw) })
    }
    return best
  }

  private static func readFreshRecord(_ stage: Stage, _ vcpu: Int) throws {
    try stage.tellStopped(vcpu)
    try stage.enter(vcpu)
    stage.look(vcpu)
    try stage.read(vcpu)
  }

  /// SUSPEND-NOT-REFUSED, SUSPEND-STOPPED-FLAG, SUSPEND-INACTIVE-NOFLAG, RATE-BOOTTIME: vCPU 0 has no record, vCPUs 1 and
  /// 2 have one, and the host tests a suspend; then again with a machine without records.
  @Sendable static func suspend(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0, 1, 2])
    try stage.enter(0)
    for vcpu in [1, 2] { try stage.register(vcpu) }
    try stage.read(1)
    try stage.readHostClock("CLOCK_BOOTTIME")
    guard stage.pretendToSuspend() != nil else { return }
    try stage.readHostClock("CLOCK_BOOTTIME")
    for vcpu in [0, 1, 2] { try stage.enter(vcpu) }
    for vcpu in [1, 2] { stage.look(vcpu) }
    try stage.read(1)
    try stage.register(0)
    stage.look(0)
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    _ = stage.pretendToSuspend()
  }

  /// PERIODIC-SYNC: a record that nothing asks for is updated all the same.
  @Sendable static func periodicSync(_ stage: Stage) throws {
    let parameter = "/sys/module/kvm/parameters/kvmclock_periodic_sync"
    guard HostFile.line(parameter) == "Y" else {
      return stage.lacks(
        "kvmclock_periodic_sync", "\(parameter) is \(HostFile.line(parameter) ?? "not there")")
    }
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    // An MSR write is followed by an update 100 ms later.
    try stage.sleep(milliseconds: 1000)
    try stage.enter(0)
    stage.look(0)
    guard case .page(_, _, let first)? = stage.history.events.last?.action else { return }
    for _ in 0..<330 {
      try stage.sleep(milliseconds: 1000)
      try stage.enter(0)
      if stage.machine.record(at: stage.records[0]!) != first { break }
    }
    stage.look(0)
  }
}
