import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct HistoryFileTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  @Test func aHistoryWithEveryKindOfEventSurvivesTheRoundTrip() throws {
    let path = try HistoryFile.save(Samples.history, in: folder.path)
    let saved = try HistoryFile.read(path)
    #expect(saved.history == Samples.history)
    #expect(saved.judged == Samples.history)
    #expect(saved.truncated == nil)
  }

  @Test func aSavedHistoryIsOneLineForTheHeaderOneForEachEventAndItsEnd() throws {
    let history = History(
      header: Samples.header,
      events: [Samples.event(1, .vmCreated), Samples.event(2, by: .vcpu(1), .entered)])
    let path = try HistoryFile.save(history, in: folder.path + "/")
    #expect(folder.names == ["version.1.kvmclock.jsonl"])
    #expect(
      try String(contentsOfFile: path, encoding: .utf8) == """
        \(Samples.headerLine)
        {"by":"host","did":{"vmCreated":{}},"n":1,"raw":[1000,1005],"tsc":[1000,1010]}
        {"by":"vcpu1","did":{"entered":{}},"n":2,"raw":[2000,2005],"tsc":[2000,2010]}
        {"endsAfter":2}

        """)
  }

  @Test func savingAgainReplacesTheFileAndLeavesNoOther() throws {
    let path = try HistoryFile.save(Samples.history, in: folder.path)
    _ = try HistoryFile.save(History(header: Samples.header), in: folder.path)
    #expect(try HistoryFile.read(path).history.events.isEmpty)
    #expect(folder.names == ["version.1.kvmclock.jsonl"])
  }

  @Test func aScenarioNameCannotLeaveTheFolder() {
    let header = Header(scenario: "../a b", seed: 1, attempt: 2, host: Samples.host)
    #expect(HistoryFile.name(of: header) == "___a_b.2.kvmclock.jsonl")
  }

  @Test func aFolderIsMadeWithThoseAboveIt() throws {
    try HistoryFile.prepare(folder: "\(folder.path)/a/b")
    try HistoryFile.prepare(folder: "\(folder.path)/a/b/")
    #expect(folder.names == ["a"])
    let claim = try HistoryFile.claim(folder: "\(folder.path)/a/b")
    let error = #expect(throws: FileError.self) {
      try HistoryFile.claim(folder: "\(folder.path)/a/b")
    }
    #expect(error?.cause == "another kvmclock records into this folder")
    withExtendedLifetime(claim) {}
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/a/b").isEmpty)
  }

  @Test func theHistoriesOfTwoRunsDoNotMix() throws {
    _ = try HistoryFile.save(Samples.history, in: folder.path)
    let error = #expect(throws: FileError.self) { try HistoryFile.claim(folder: folder.path) }
    #expect(error?.cause == "it holds the histories of an earlier run")
    try HistoryFile.prepare(folder: folder.path)
  }

  @Test func aFileInTheMakingHasNoNameAndLeavesNone() throws {
    var file = try AtomicFile("\(folder.path)/a")
    try file.append(Array("text".utf8))
    try file.flush()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    try file.commit()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a"])
  }

  @Test func aPipeIsWrittenAndNotReplaced() throws {
    let path = "\(folder.path)/pipe"
    #expect(mkfifo(path, 0o600) == 0)
    let error = #expect(throws: FileError.self) { try ReportFile.write("text", to: path) }
    #expect(error?.cause == "nobody reads this pipe")
    let reader = open(path, O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    try ReportFile.probe(path)
    try ReportFile.write("text", to: path)
    var bytes = [UInt8](repeating: 0, count: 8)
    #expect(read(reader, &bytes, 8) == 4)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO)
  }

  @Test func aMissingFolderIsNamedWithTheRemedy() {
    expectUnwritable("\(folder.path)/none", "No such file or directory; create the folder first")
  }

  @Test func aFolderWithoutPermissionIsNamedWithTheRemedy() {
    // Not even root may create files in sysfs.
    expectUnwritable("/sys", "Permission denied; choose a folder that you may write to")
    #expect(throws: FileError.self) { try HistoryFile.prepare(folder: "/sys") }
    #expect(throws: FileError.self) { try HistoryFile.prepare(folder: "/sys/none") }
  }

  @Test func aFileInPlaceOfTheFolderIsNamedWithTheRemedy() throws {
    let file = try folder.file("file", "")
    expectUnwritable(file, "Not a directory; a part of the path is a file")
    let error = #expect(throws: FileError.self) { try HistoryFile.prepare(folder: file) }
    #expect(error?.description.contains("Not a directory") == true)
  }

  @Test(.enabled(if: getuid() == 0, "only root can mount a small file system"))
  func aFullDiskIsNamedAndNoPartOfTheFileIsLeft() throws {
    try #require(mount("none", folder.path, "tmpfs", 0, "size=64k") == 0)
    defer { umount2(folder.path, Int32(MNT_DETACH)) }
    let big = Samples.event(
      1, .memory(address: 0, bytes: HexBytes([UInt8](repeating: 1, count: 99_999))))
    var history = History(header: Samples.header)
    let path = try HistoryFile.save(history, in: folder.path)
    history.events = [big]
    expectUnwritable(folder.path, "No space left on device; free some space there", history)
    #expect(folder.names == ["version.1.kvmclock.jsonl"])
    #expect(try HistoryFile.read(path).history.events.isEmpty, "the older file is whole")
    _ = try folder.file("filler", [UInt8](repeating: 0, count: 60 << 10))
    #expect(throws: FileError.self) { try HistoryFile.prepare(folder: folder.path) }
  }

  private func expectUnwritable(
    _ folder: String, _ message: String, _ history: History = Samples.history,
    at location: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: FileError.self, sourceLocation: location) {
      try HistoryFile.save(history, in: folder)
    }
    let text = error?.description ?? ""
    #expect(error?.kind == .unwritable, sourceLocation: location)
    #expect(
      text.hasPrefix("\(folder)/version.1.kvmclock.jsonl: cannot "), sourceLocation: location)
    #expect(text.contains(message), sourceLocation: location)
  }
}
