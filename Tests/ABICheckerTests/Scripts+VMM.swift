import PVClock

@testable import ABIChecker

// What an honest VMM leaves behind, with a clock that stands still while the guest is stopped.

extension HistoryBuilder {
  /// All vCPUs answer one question.
  mutating func answer(_ ids: [Int] = [0, 1], told: Bool = false, wall: WallClock? = nil) {
    for id in ids { serve(id) }
    let began = begin()
    let asked = guestTSC(time.cycles, on: 0)
    let readings = ids.map { id in
      time.pass(nanoseconds: 200)
      return reading(on: id)
    }
    time.pass(nanoseconds: 200)
    let seen = guestTSC(time.cycles, on: 0)
    if let wall {
      end(
        .vcpu(0), began,
        [
          .readWallClock(
            version: wall.version, seconds: wall.seconds, nanoseconds: wall.nanoseconds)
        ])
    }
    for (id, var reading) in zip(ids, readings) {
      if told { reading.page.flags.insert(.guestStopped) }
      let stretch = Stretch(
        page: reading.page, firstTSC: reading.tsc, lastTSC: reading.tsc, reads: 2)
      end(
        .vcpu(id), began,
        [
          .sampled(
            address: Hex(vcpus[id]!.address),
            result: SampleResult(
              reads: 2, stretches: [stretch], last: reading, asked: asked, seen: seen))
        ])
    }
  }

  mutating func vmm(_ verb: VMMVerb, other: Int? = nil, failure: VMMFailure? = nil) {
    host(.vmm(verb: verb, other: other, failure: failure))
  }

  mutating func startUnderVMM() {
    createMachine()
    for id in [0, 1] { createVCPU(id) }
    vmm(.start)
    for id in [0, 1] { register(id) }
    answer()
  }

  /// The guest does not run while `work` is done; then its clock goes on from where it was.
  mutating func stopped(_ work: (inout Self) -> Void) {
    let stood = pause()
    work(&self)
    resume(from: stood)
  }

  /// CLOCK_MONOTONIC_RAW when the guest's clock stood.
  mutating func pause() -> UInt64 {
    var stood: UInt64 = 0
    bracketed(.host) { host in
      stood = host.time.raw
      return [.vmm(verb: .pause, other: nil, failure: nil)]
    }
    return stood
  }

  mutating func resume(from stood: UInt64) {
    bracketed(.host) { host in
      host.stepClock(by: -Int64(host.time.raw - stood))
      return [.vmm(verb: .resume, other: nil, failure: nil)]
    }
  }

  /// A vCPU starts again: it looks at the MSR, and registers.
  mutating func startAgain(_ id: Int) {
    if vcpus[id] != nil { run(id, .readMSR(MSR.systemTime)) }
    register(id)
  }

  /// Changes what a vCPU saw in its last answer.
  mutating func amendAnswer(of id: Int, _ change: (inout SampleResult) -> Void) {
    let at = events.lastIndex {
      if case .sampled = $0.action { $0.actor == .vcpu(id) } else { false }
    }!
    guard case .sampled(let address, var result) = events[at].action else { return }
    change(&result)
    events[at].action = .sampled(address: address, result: result)
  }

  /// The same of each record that it saw.
  mutating func amendPages(of id: Int, _ change: (inout ClockPage) -> Void) {
    amendAnswer(of: id) { result in
      change(&result.last.page)
      for index in result.stretches.indices { change(&result.stretches[index].page) }
    }
  }
}

extension Script {
  static func vmmRun(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    for _ in 0..<2 {
      host.wait(milliseconds: 50)
      host.answer()
      host.host(.hostClock(name: "CLOCK_REALTIME", nanoseconds: 1_700_000_000_000_000_000))
      host.answer(wall: WallClock(version: 2, seconds: 1_700_000_000, nanoseconds: 0))
      host.host(.hostClock(name: "CLOCK_REALTIME", nanoseconds: 1_700_000_000_000_100_000))
      for msr in [MSR.systemTime, MSR.systemTimeOld, MSR.systemTime] {
        for id in [0, 1] { host.run(id, .write(msr, host.vcpus[id]!.address | 1)) }
        host.answer()
      }
    }
  }

  static func vmmPause(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    for _ in 0..<2 {
      host.answer()
      host.stopped { $0.wait(milliseconds: 300) }
      host.answer(told: true)
      host.answer()
      host.wait(milliseconds: 20)
      host.answer()
    }
    host.stopped {
      $0.wait(milliseconds: 150)
      $0.vmm(.pause)
      $0.wait(milliseconds: 150)
    }
    host.answer(told: true)
    host.answer()
    host.vmm(.resume)
    host.answer()
  }

  static func vmmSnapshot(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    host.answer()
    host.stopped { $0.wait(milliseconds: 300) }
    host.answer(told: true)
    for state in 1...2 {
      host.answer()
      host.stopped {
        $0.wait(milliseconds: 100)
        $0.vmm(.save, other: state)
        $0.wait(milliseconds: 300)
        $0.vmm(.restore, other: state)
      }
      host.answer(told: true)
      host.answer()
      host.answer()
    }
  }

  static func vmmMigration(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    host.answer()
    for _ in 0..<2 {
      host.vmm(.migrate, failure: .refused(reason: "nobody listens"))
      host.answer()
    }
    for _ in 0..<2 {
      host.vmm(.migrate)
      host.answer(told: true)
      host.answer()
      host.answer()
    }
  }

  static func vmmReset(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    for _ in 0..<2 {
      host.answer()
      host.vmm(.reset)
      for id in [0, 1] {
        host.vcpus[id]?.msr = 0
        host.startAgain(id)
      }
      host.answer()
      host.answer()
    }
  }

  /// One of two machines is paused and migrated; its clock stands still, and the other one's runs on.
  static func vmmBeside(
    _ host: HistoryBuilder, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var vms = Sisters(host, count: 2)
    for name in 0..<2 { vms.with(name) { $0.startUnderVMM() } }
    for _ in 0..<2 {
      for name in [1, 0] { vms.with(name) { $0.answer() } }
      var stood: UInt64 = 0
      vms.with(0) { stood = $0.pause() }
      vms.with(1) { host in
        host.answer()
        host.wait(milliseconds: 300)
        host.answer()
      }
      vms.with(0) { $0.resume(from: stood) }
      vms.with(1) { host in
        fault(&host)
        host.answer()
      }
      vms.with(0) { $0.answer(told: true) }
    }
    return vms.finished
  }

  static func vmmHotplug(_ host: inout HistoryBuilder) {
    host.startUnderVMM()
    host.answer()
    for round in 0..<3 {
      host.vmm(.plug)
      if round == 0 { host.createVCPU(2) }
      host.vcpus[2]?.msr = 0
      host.startAgain(2)
      host.answer([0, 1, 2])
      host.answer([0, 1, 2])
      host.vmm(.unplug)
      host.answer()
    }
  }
}
