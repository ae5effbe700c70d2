import KVM
import PVClock
import Testing

@testable import VMBuilder

extension Live {
  @Suite("Guests that read without pause")
  struct RaceGuests {
    static let msr: UInt32 = 0x4b56_4d01

    /// Two vCPUs with records, at 128 bytes into their clock pages.
    private func machine() throws -> Machine {
      let machine = try LiveHost.machine(Machine.Options(vcpus: [0, 1]))
      for vcpu in [0, 1] {
        _ = try machine.ask(vcpu, .writeMSR(Self.msr, record(vcpu) | 1))
      }
      return machine
    }

    private func record(_ vcpu: Int) -> UInt64 { Layout.clockPage(vcpu) + 128 }

    @Test("the sampler leaves a stretch for the one version of a record that nobody updates")
    func sampler() throws {
      let machine = try machine()
      try machine.boot(0, .sampler)
      // A record of our own making, so that no host touches it.
      let mine = Layout.clockPage(1) + 1024
      let page = ClockPage(
        version: 6, tscTimestamp: 5, systemTime: 7, tscToSystemMultiplier: 1 << 31, tscShift: 1)
      machine.memory.write(page.bytes, at: Int(mine))
      try machine.begin(0, .sample(mine, count: 1000))
      #expect(try machine.finish(0).value.status == .done)
      let loop = machine.loop(0)
      let trace = machine.trace(0)
      #expect(loop.reads == 1000 && loop.torn == 0 && loop.odd == 0 && loop.unstable == 1000)
      #expect(trace.count == 1 && loop.stretches == 1 && loop.dropped == 0 && loop.versions == 0)
      #expect(trace.first?.page == page && trace.first?.reads == 1000)
      #expect(trace.first.map { $0.firstTSC < $0.lastTSC } ?? false)
    }

    @Test("every version that the host makes is a stretch, and what does not fit is counted")
    func trace() throws {
      let machine = try machine()
      try machine.boot(1, .torn)
      let mine = Layout.clockPage(0) + 1024
      try machine.begin(1, .sample(mine))
      for version in 1...1000 as ClosedRange<UInt32> {
        machine.memory.store32(version * 2 - 1, at: Int(mine))
        machine.memory.store32(version, at: Int(mine) + 16)
        machine.memory.store32(version * 2, at: Int(mine))
      }
      machine.stopLoop(1)
      #expect(try machine.finish(1).value.status == .done)
      let loop = machine.loop(1)
      let trace = machine.trace(1)
      #expect(loop.torn == 0)
      #expect(trace.count == Int(loop.stretches) && trace.count <= 256)
      #expect(trace.allSatisfy { $0.page.version == 2 * UInt32($0.page.systemTime) })
      #expect(trace.count == 256 || loop.dropped == 0)
    }

    @Test("fields that change under one version are torn, and the first pair is kept")
    func torn() throws {
      let machine = try machine()
      try machine.boot(1, .torn)
      let mine = Layout.clockPage(0) + 1024
      try machine.begin(1, .sample(mine))
      // The guest may not have a CPU for a while.
      let end = ContinuousClock.now + .seconds(4)
      var value: UInt32 = 0
      while machine.loop(1).torn == 0, ContinuousClock.now < end {
        for _ in 0..<1000 {
          value &+= 1
          machine.memory.store32(value, at: Int(mine) + 16)
        }
      }
      machine.stopLoop(1)
      #expect(try machine.finish(1).value.status == .done)
      let loop = machine.loop(1)
      #expect(loop.torn > 0)
      #expect(loop.tornBefore.version == loop.tornAfter.version)
      #expect(loop.tornBefore.systemTime != loop.tornAfter.systemTime)
      #expect(machine.trace(1).count == 1)
    }

    @Test("racers start together and count the values of others")
    func contend() throws {
      let machine = try machine()
      for vcpu in [0, 1] { try machine.boot(vcpu, .contend) }
      machine.openRace(of: 2)
      for vcpu in [0, 1] {
        try machine.begin(vcpu, .contend(record(vcpu), meetingAt: Layout.shared, count: 50_000))
      }
      for vcpu in [0, 1] {
        #expect(try machine.finish(vcpu).value.status == .done)
        let loop = machine.loop(vcpu)
        #expect(loop.reads == 50_000 && loop.foreign <= loop.reads)
        #expect(loop.unstable > 0 || loop.backwards == 0)
      }
      #expect(machine.loop(0).foreign + machine.loop(1).foreign > 0)
    }

    @Test(
      "a loop that nobody ends does so by itself",
      arguments: [GuestImage.sampler, .torn, .schedclock, .rewriter, .contend])
    func ending(guest: GuestImage) throws {
      let machine = try machine()
      try machine.boot(0, guest)
      machine.openRace(of: 1)
      var request =
        switch guest {
        case .rewriter: GuestRequest.rewrite(Self.msr, record(0) | 1, count: .max)
        case .schedclock: GuestRequest.readLoop(record: record(0), constantAt: Layout.shared)
        default: GuestRequest.sample(record(0), witness: Layout.shared)
        }
      request.cycles = 1 << 27
      try machine.begin(0, request)
      #expect(try machine.finish(0).value.status == .done)
      #expect(machine.loop(0).reads > 0)
    }

    @Test("a loop that the host ends before or while it begins is over at once")
    func endingEarly() throws {
      let machine = try machine()
      try machine.boot(0, .sampler)
      for _ in 0..<300 {
        try machine.begin(0, .sample(record(0)))
        machine.stopLoop(0)
        #expect(try machine.finish(0).value.status == .done)
      }
    }

    @Test("a race to which the others do not come, and a record whose version stays odd, end too")
    func endingInVain() throws {
      let machine = try machine()
      machine.openRace(of: 2)
      var request = GuestRequest.contend(record(0), meetingAt: Layout.shared)
      request.cycles = 1 << 27
      try machine.boot(0, .contend)
      try machine.begin(0, request)
      #expect(try machine.finish(0).value.status == .done)
      let mine = Layout.clockPage(0) + 1024
      machine.memory.store32(7, at: Int(mine))
      for guest in [GuestImage.contend, .torn] {
        try machine.boot(0, guest)
        machine.openRace(of: 1)
        request.argument0 = mine
        try machine.begin(0, request)
        #expect(try machine.finish(0).value.status == .done)
        #expect(machine.loop(0).odd > 0)
      }
      request = .measure(mine)
      request.cycles = 1 << 27
      try machine.boot(0, .sampler)
      try machine.begin(0, request)
      #expect(try machine.finish(0).value.status == .neverEven)
    }

    @Test("a loop whose last TSC never comes ends by its count, whatever it waits for")
    func endingByCount() throws {
      let machine = try LiveHost.machine(Machine.Options(deadlineMilliseconds: 60_000))
      let mine = Layout.clockPage(0) + 1024
      machine.memory.store32(7, at: Int(mine))
      func ends(_ guest: GuestImage, _ request: GuestRequest, racers: Int = 1) throws -> GuestLoop {
        var request = request
        request.cycles = 1 << 62
        try machine.boot(0, guest)
        machine.openRace(of: racers)
        try machine.begin(0, request)
        _ = try machine.finish(0)
        return machine.loop(0)
      }
      // A record whose version stays odd.
      #expect(try ends(.torn, .sample(mine, count: 1 << 20)).odd > 0)
      #expect(try ends(.contend, .contend(mine, meetingAt: Layout.shared, count: 1 << 20)).odd > 0)
      _ = try ends(.sampler, .measure(mine, attempts: 1 << 20))
      // A race to which nobody else comes.
      machine.memory.store32(6, at: Int(mine))
      let alone = try ends(
        .contend, .contend(mine, meetingAt: Layout.shared, count: 1 << 20), racers: 2)
      #expect(alone.reads == 1 << 20)
    }

    @Test("a maximum from the future is a step back, with both ends")
    func future() throws {
      let machine = try machine()
      try machine.boot(0, .contend)
      machine.openRace(of: 1)
      let future = UInt64.max / 4
      machine.memory.store64(future, at: Int(Layout.shared))
      machine.memory.store64(77, at: Int(Layout.shared) + 8)
      try machine.begin(0, .contend(record(0), meetingAt: Layout.shared, count: 10))
      #expect(try machine.finish(0).value.status == .done)
      let loop = machine.loop(0)
      #expect(loop.backwards == 10 && loop.foreign == 10)
      #expect(loop.worstBefore == future && loop.worstBeforeTSC == 77)
      let after = loop.worstAfter.page.systemTime(atTSC: loop.worstAfter.tsc)
      #expect(UInt64(bitPattern: loop.worst) == after &- future)
    }

    @Test("a reading is measured against RDTSC and the loads alone")
    func cost() throws {
      let machine = try machine()
      try machine.boot(0, .sampler)
      #expect(try machine.ask(0, .measure(record(0))).value.status == .done)
      let loop = machine.loop(0)
      #expect(loop.cost > 0 && loop.cost < UInt64.max && loop.bareCost < UInt64.max)
    }

    @Test("a count of stretches that the guest made up is not believed")
    func hostileTrace() throws {
      let machine = try machine()
      for claim in [257, 1 << 31, UInt64(UInt32.max), 1 << 32, .max] {
        machine.memory.store64(claim, at: Int(Layout.mailbox(0)) + 0x100 + 0x100)
        #expect(machine.trace(0).count == 256)
      }
    }

    @Test("a vCPU's thread can be bound to each CPU that is allowed")
    func affinity() throws {
      let machine = try machine()
      let allowed = try Affinity.current()
      for cpu in allowed.cpus.prefix(4) {
        let one = try #require(Affinity(cpu: cpu))
        let found = try machine.withVCPU(0) { _ throws(KVMError) in
          try one.apply()
          return try Affinity.current()
        }.value
        #expect(found == one && found.cpus == [cpu])
        #expect(try machine.ask(0, .nothing()).value.status == .done)
      }
      #expect(try Affinity.current() == allowed)
      #expect(Affinity(cpu: -1) == nil && Affinity(cpu: .max) == nil)
      let nowhere = try #require(Affinity(cpu: 65_535))
      #expect(throws: MachineError.self) {
        try machine.withVCPU(0) { _ throws(KVMError) in try nowhere.apply() }
      }
    }
  }
}
