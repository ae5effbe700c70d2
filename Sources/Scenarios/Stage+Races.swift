internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

// Guests that run side by side, and vCPUs that move.

extension Stage {
  /// How many vCPUs can run at the same time, two to four.
  var racers: Int { min(4, max(2, allowedCPUs.count)) }

  /// The host's CPUs that this process may use.
  var allowedCPUs: [Int] { (try? Affinity.current())?.cpus ?? [] }

  /// Puts each vCPU on a CPU of its own as far as there are enough: without a second one a race's guests only take turns.
  func spread() throws {
    let cpus = allowedCPUs
    guard cpus.count >= 2 else {
      return lacks("two CPUs to run on", "sched_getaffinity allows \(cpus)")
    }
    for (place, vcpu) in machine.vcpus.enumerated() {
      try move(vcpu, to: cpus[place % cpus.count])
    }
  }

  /// Waits until a guest that was begun reads: what is done before is not done beside it.
  func awaitReader(_ vcpu: Int) throws {
    for _ in 0..<2000 {
      let loop = machine.loop(vcpu)
      if loop.reads > 0 || loop.odd > 0 { return }
      try sleep(milliseconds: 1)
    }
  }

  /// Waits for a loop that watches a record, and writes down what it kept of each version.
  func finishWatch(_ vcpu: Int, _ guest: GuestImage, of owner: Int) throws {
    let reply = try machine.finish(vcpu)
    try require(reply, vcpu, guest)
    let loop = machine.loop(vcpu)
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .watched(
        guest: guest.name, owner: owner, address: Hex(records[owner]!),
        result: WatchResult(loop, machine.trace(vcpu))))
    guard guest == .sampler, owner == vcpu else { return }
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .looped(guest: guest.name, result: LoopResult(loop, of: guest)))
  }

  /// Waits for a loop that watches a wall clock record, which stands at the head of the record that the guest reads.
  func finishWallWatch(_ vcpu: Int, at address: UInt64) throws {
    let reply = try machine.finish(vcpu)
    try require(reply, vcpu, .torn)
    let loop = machine.loop(vcpu)
    func head(_ page: ClockPage) -> WallClock {
      WallClock(bytes: page.bytes.prefix(WallClock.size))!
    }
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .watchedWallClock(
        address: Hex(address),
        result: WallWatchResult(
          reads: loop.reads, odd: loop.odd, torn: loop.torn,
          tornPair: loop.torn > 0 ? [head(loop.tornBefore), head(loop.tornAfter)] : [],
          records: machine.trace(vcpu).map { head($0.page) })))
  }

  /// All vCPUs race, each from the record of `owner`, or from its own, until they have met as often as it takes.
  func race(_ number: Int, owner: Int? = nil) throws {
    let vcpus = machine.vcpus
    for vcpu in vcpus { try boot(vcpu, .contend) }
    machine.openRace(of: vcpus.count)
    for vcpu in vcpus {
      try machine.begin(
        vcpu, .contend(records[owner ?? vcpu]!, meetingAt: Layout.shared))
    }
    for round in 1...100 {
      try sleep(milliseconds: 10)
      if machine.isRaceDone(of: vcpus.count) { break }
      let loops = vcpus.map { machine.loop($0) }
      // Where one clock is ahead of the others it never meets a maximum but its own.
      let areApart = loops.allSatisfy { $0.reads >= 1500 && $0.unstable > 0 }
      // On a busy host they meet seldom: after a while, as often as the rules ask for is enough.
      let meeting = loops.filter { $0.foreign >= 150 }.count
      if areApart && meeting >= 1 || round >= 10 && meeting >= 2 { break }
    }
    for vcpu in vcpus { machine.stopLoop(vcpu) }
    for vcpu in vcpus {
      let reply = try machine.finish(vcpu)
      try require(reply, vcpu, .contend)
      record(
        .vcpu(vcpu), reply.began, reply.ended,
        .raced(race: number, owner: owner ?? vcpu, result: RaceResult(machine.loop(vcpu))))
    }
    for vcpu in vcpus {
      // A record that is made from here on was not made during the race.
      look(vcpu)
      try boot(vcpu, .agentLong)
    }
  }

  /// Waits for writes whose record is another vCPU's as well: it may be met in the middle of an update for long.
  func finishStorm(_ vcpu: Int, _ msr: UInt32) throws {
    let reply = try machine.finish(vcpu)
    if reply.value.status != .neverEven { try require(reply, vcpu, .rewriter) }
    let loop = machine.loop(vcpu)
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .stormed(msr: Hex(msr), writes: loop.reads, versions: loop.versions))
  }

  /// What a reading of its record costs a vCPU.
  func measure(_ vcpu: Int) throws {
    try boot(vcpu, .sampler)
    let reply = try machine.ask(vcpu, .measure(records[vcpu]!))
    try require(reply, vcpu, .sampler)
    let loop = machine.loop(vcpu)
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .measured(
        reads: GuestLoop.measuredReads, cycles: loop.cost, bareCycles: loop.bareCost))
  }

  /// Binds a vCPU's thread to one of the host's CPUs.
  func move(_ vcpu: Int, to cpu: Int) throws {
    guard let affinity = Affinity(cpu: cpu) else { return }
    let done = try machine.withVCPU(vcpu) { _ throws(KVMError) in try affinity.apply() }
    record(.host, done.began, done.ended, .moved(vcpu: vcpu, cpu: cpu))
  }

  private func require(
    _ reply: Bracketed<GuestReply>, _ vcpu: Int, _ guest: GuestImage
  ) throws {
    guard reply.value.status == .done else {
      throw MachineError.mailboxUnreadable(
        vcpu: vcpu, reason: "\(guest.name) ended with \(reply.value.status)")
    }
  }
}

extension WatchResult {
  init(_ loop: GuestLoop, _ trace: [GuestStretch]) {
    self.init(
      reads: loop.reads, odd: loop.odd, torn: loop.torn,
      tornPair: loop.torn > 0 ? [loop.tornBefore, loop.tornAfter] : [],
      stretches: trace.map {
        Stretch(page: $0.page, firstTSC: $0.firstTSC, lastTSC: $0.lastTSC, reads: $0.reads)
      },
      dropped: loop.dropped)
  }
}

extension RaceResult {
  init(_ loop: GuestLoop) {
    self.init(
      reads: loop.reads, foreign: loop.foreign, unstable: loop.unstable, versions: loop.versions,
      backwards: loop.backwards, worst: loop.worst, worstBefore: loop.worstBefore,
      worstBeforeTSC: loop.worstBeforeTSC, worstAfter: Reading(loop.worstAfter),
      first: Reading(loop.first), last: Reading(loop.last))
  }
}
