import PVClock

@testable import ABIChecker

// Guests that run side by side, and threads that move.

extension HistoryBuilder {
  /// vCPUs race, from their own records or from that of `owner`; `change` gets each one's part.
  mutating func race(
    _ number: Int, _ ids: [Int], owner: Int? = nil, milliseconds: UInt64 = 3,
    _ change: (inout RaceResult, Int) -> Void = { _, _ in }
  ) {
    let starts = ids.map { id in
      let began = begin()
      serve(id)
      time.pause()
      return (id: id, began: began, first: reading(on: id, at: vcpus[owner ?? id]!.address))
    }
    wait(milliseconds: milliseconds)
    for (id, began, first) in starts {
      serve(id)
      time.pause()
      let last = reading(on: id, at: vcpus[owner ?? id]!.address)
      let isStable = first.page.flags.contains(.tscStable)
      var result = RaceResult(
        reads: 60_000, foreign: 9_000, unstable: isStable ? 0 : 60_000,
        versions: first.page.version == last.page.version ? 0 : 1, backwards: isStable ? 0 : 5,
        worst: isStable ? 0 : -35, worstBefore: isStable ? 0 : last.value &+ 35, first: first,
        last: last)
      change(&result, id)
      end(.vcpu(id), began, [.raced(race: number, owner: owner ?? id, result: result)])
    }
  }

  /// A vCPU reads another one's record while the host works; it misses every third state of it.
  mutating func watch(
    _ reader: Int, of owner: Int, rounds: Int, _ change: (inout WatchResult) -> Void = { _ in },
    work: (inout Self, Int) -> Void
  ) {
    let began = begin()
    serve(reader)
    var stretches: [Stretch] = []
    for round in 0..<rounds {
      work(&self, round)
      if round % 3 < 2 { stretches.append(stretch(of: owner, on: reader)) }
    }
    serve(reader)
    var result = WatchResult(reads: 800_000, odd: 4, stretches: stretches)
    change(&result)
    let address = Hex(vcpus[owner]!.address)
    end(
      .vcpu(reader), began,
      [.watched(guest: "torn", owner: owner, address: address, result: result)])
  }

  /// A vCPU reads its own record without pause, and comes to another CPU now and then.
  mutating func sample(_ id: Int, _ change: (inout WatchResult) -> Void = { _ in }) {
    let began = begin()
    var stretches: [Stretch] = []
    for _ in 0..<6 {
      serve(id)
      time.pause()
      let next = stretch(of: id, on: id)
      if stretches.last?.page.version != next.page.version { stretches.append(next) }
    }
    var result = WatchResult(reads: 90_000, stretches: stretches)
    change(&result)
    let address = Hex(vcpus[id]!.address)
    end(
      .vcpu(id), began,
      [.watched(guest: "sampler", owner: id, address: address, result: result)])
  }

  private mutating func stretch(of owner: Int, on reader: Int) -> Stretch {
    let first = reading(on: reader, at: vcpus[owner]!.address)
    time.pass(nanoseconds: 900)
    time.pause()
    let last = reading(on: reader, at: vcpus[owner]!.address)
    return Stretch(page: first.page, firstTSC: first.tsc, lastTSC: last.tsc, reads: 40)
  }

  /// Two vCPUs write the MSR side by side.
  mutating func storm(_ ids: Int..., writes: UInt64 = 60, msr: UInt32 = MSR.systemTime) {
    let starts = ids.map { id in (id, begin()) }
    for _ in 0..<3 {
      for id in ids {
        write(vcpus[id]!.msr, to: msr, on: id)
        serve(id)
      }
    }
    for (id, began) in starts {
      end(.vcpu(id), began, [.stormed(msr: Hex(msr), writes: writes, versions: writes)])
    }
  }

  mutating func move(_ id: Int, to cpu: Int) { host(.moved(vcpu: id, cpu: cpu)) }

  mutating func measure(_ id: Int, cycles: UInt64, bare: UInt64) {
    bracketed(.vcpu(id)) { host in
      host.serve(id)
      return [.measured(reads: 4096, cycles: cycles, bareCycles: bare)]
    }
  }
}

// vCPUs that read their own records while the host works.

extension HistoryBuilder {
  /// The vCPUs run from before `work` until after it. `kick` is called by `work` where KVM takes them out of the guest;
  /// `change` gets what each one kept.
  mutating func run(
    _ ids: [Int], _ change: (Int, inout WatchResult) -> Void = { _, _ in },
    while work: (inout Self, (inout Self) -> Void) -> Void
  ) {
    let starts = ids.map { id in
      let began = begin()
      serve(id)
      return (id, began)
    }
    var stretches: [Int: [Stretch]] = [:]
    func look(_ host: inout Self) {
      for id in ids {
        host.serve(id)
        let seen = host.reading(on: id)
        if let last = stretches[id]?.last, last.page == seen.page {
          stretches[id]![stretches[id]!.count - 1].lastTSC = seen.tsc
        } else {
          stretches[id, default: []].append(
            Stretch(page: seen.page, firstTSC: seen.tsc, lastTSC: seen.tsc, reads: 40))
        }
      }
    }
    look(&self)
    work(&self, look)
    for (id, began) in starts {
      var result = WatchResult(reads: 90_000, stretches: stretches[id] ?? [])
      change(id, &result)
      let address = Hex(vcpus[id]!.address)
      end(
        .vcpu(id), began, [.watched(guest: "torn", owner: id, address: address, result: result)])
    }
  }
}
