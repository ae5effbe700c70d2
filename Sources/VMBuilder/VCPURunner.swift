internal import GuestImages
internal import KVM
internal import Synchronization

/// One vCPU on its thread, and the watchdog over it: whoever waits for the guest kicks it when its time is over.
final class VCPURunner: @unchecked Sendable {
  let id: Int
  /// The worker's during a job, the driver's between two.
  private var vcpu: VCPU
  private let interrupter: VCPU.Interrupter
  /// Whether the driver wants the vCPU back. Any other end of a run by a signal, as after SIGSTOP and SIGCONT, is none.
  private let isRecalled = Atomic(false)
  private let worker: WorkerThread
  private let options: Machine.Options
  /// Written by the worker during a job, read by the driver after it: exactly one of the two is there after a run.
  private var exit: VCPUExit?
  private var error: KVMError?
  private var began = Moment(tsc: 0, raw: 0)
  private var ended = Moment(tsc: 0, raw: 0)
  /// CLOCK_MONOTONIC_RAW, in nanoseconds, just before the thread got its job.
  private var handedOver: UInt64 = 0
  /// The thread did not come back from a job. It may go on with it at any time, so nothing that the job uses is read.
  private var isLost = false
  private var hasRun = false

  init(id: Int, vcpu: consuming VCPU, worker: WorkerThread, options: Machine.Options) {
    self.id = id
    interrupter = vcpu.interrupter
    self.vcpu = vcpu
    self.worker = worker
    self.options = options
  }

  /// Lets the guest run on the vCPU's thread.
  func beginRun() throws(MachineError) {
    try begin { [self] in
      began = .before()
      do throws(KVMError) {
        exit = try run()
      } catch let failure {
        error = failure
      }
      ended = .after()
    }
    hasRun = true
  }

  /// Hands the thread a job.
  private func begin(_ job: @escaping () -> Void) throws(MachineError) {
    try requireThread()
    exit = nil
    error = nil
    // Not after it, when the worker reads the clock: with hpet, one of two readers at a time gets an old value.
    handedOver = Moment.monotonicRaw()
    worker.begin(job)
  }

  private func requireThread() throws(MachineError) {
    if isLost { throw .threadLost(vcpu: id) }
  }

  /// Runs the guest until something has to be done that is not the clock's.
  private func run() throws(KVMError) -> VCPUExit {
    if let exit = try options.sabotage?.insteadOfRun() { return exit }
    while true {
      options.clock?.willEnter(id, vcpu)
      let exit = try vcpu.run()
      switch (exit, options.clock) {
      case (.interrupted, _) where !isRecalled.load(ordering: .acquiring): continue
      case (.readMSR(let msr, _), let clock?):
        vcpu.completeReadMSR(value: clock.guestReads(msr, id, vcpu))
      case (.writeMSR(let msr, let value, _), let clock?):
        vcpu.completeWriteMSR(accepted: clock.guestWrites(msr, value, id, vcpu))
      default: return exit
      }
    }
  }

  /// Waits until the guest rang its doorbell.
  func finishRun() throws(MachineError) -> Bracketed<Void> {
    try waitForWorker()
    if let error { throw .kvm(error) }
    switch exit {
    case .out(let port, _, _, _) where port == UInt16(GUEST_DOORBELL_PORT):
      return Bracketed(began: began, ended: ended, value: ())
    case .some(let exit): throw .guestStopped(vcpu: id, exit: exit, at: whereabouts())
    case nil: preconditionFailure("no run was begun on vCPU \(id)")
    }
  }

  /// Takes the vCPU out of a run that has not ended; whether that was so.
  func recall() throws(MachineError) -> Bool {
    guard isBack() else {
      isLost = true
      throw .threadLost(vcpu: id)
    }
    return exit == .interrupted
  }

  /// Does something with the vCPU on its thread.
  func perform<Value: Sendable>(
    _ body: @escaping @Sendable (inout VCPU) throws(KVMError) -> Value
  ) throws(MachineError) -> Bracketed<Value> {
    let box = Box<Bracketed<Result<Value, KVMError>>>()
    try begin { [self] in
      let began = Moment.before()
      let result: Result<Value, KVMError>
      do throws(KVMError) {
        result = .success(try body(&vcpu))
      } catch {
        result = .failure(error)
      }
      box.value = Bracketed(began: began, ended: .after(), value: result)
    }
    try waitForWorker()
    guard let done = box.value else { preconditionFailure("the worker did not do its job") }
    switch done.value {
    case .failure(let error): throw .kvm(error)
    case .success(let value): return Bracketed(began: done.began, ended: done.ended, value: value)
    }
  }

  /// Puts the vCPU at the start of an image. A vCPU that never ran has no thread yet, so the caller may set its registers.
  func boot(_ state: BootState) throws(MachineError) {
    try requireThread()
    let isAwake = hasRun
    let hasIRQChip = options.hasIRQChip
    guard isAwake else {
      do {
        try state.load(into: &vcpu, isAwake: false, hasIRQChip: hasIRQChip)
      } catch {
        throw .kvm(error)
      }
      return
    }
    _ = try perform { vcpu throws(KVMError) in
      try state.load(into: &vcpu, isAwake: true, hasIRQChip: hasIRQChip)
    }
  }

  /// Joins the thread, kicking the guest out of a run that nobody waited for.
  func end() {
    guard !isLost, worker.isDone(within: 0) || isBack() else {
      worker.abandon()
      return
    }
    worker.stop()
  }

  private func waitForWorker() throws(MachineError) {
    let slice = 20
    var patience = options.sabotage?.deadlineMilliseconds ?? options.deadlineMilliseconds
    while !worker.isDone(within: slice) {
      patience -= slice
      let cancelled = options.isCancelled()
      guard cancelled || patience <= 0 else { continue }
      let waited = Int((Moment.monotonicRaw() - handedOver) / 1_000_000)
      guard isBack() else {
        isLost = true
        throw .threadLost(vcpu: id)
      }
      // It may have come back by itself in the last moment; then its answer counts.
      if exit == .interrupted {
        throw cancelled
          ? .cancelled
          : .deadlinePassed(vcpu: id, milliseconds: waited, at: whereabouts())
      }
    }
  }

  /// Kicks until the thread is out of KVM_RUN, for 2 s or longer. A thread that does not come stays recalled.
  private func isBack() -> Bool {
    isRecalled.store(true, ordering: .releasing)
    interrupter.requestImmediateExit(true)
    for _ in 0..<2000 {
      worker.kick()
      guard worker.isDone(within: 1) else { continue }
      interrupter.requestImmediateExit(false)
      isRecalled.store(false, ordering: .releasing)
      return true
    }
    return false
  }

  /// Nil where KVM does not give the registers, or the thread not within a second: it is lost then.
  private func whereabouts() -> Whereabouts? {
    let box = Box<Whereabouts>()
    worker.begin { [self] in
      options.sabotage?.beforeRegisters()
      box.value = Whereabouts(of: vcpu)
    }
    isLost = !worker.isDone(within: 1000)
    return isLost ? nil : box.value
  }
}

/// Carries a value from the worker to the driver; the worker's monitor orders the two.
private final class Box<Value>: @unchecked Sendable {
  var value: Value?
}
