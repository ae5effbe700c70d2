import Foundation
import Testing

@testable import Reporting

@Suite struct PageTests {
  private let page = HTMLReport(Samples.report).text

  private func content(of element: String) throws -> String {
    let begin = try #require(page.range(of: "<\(element)>"))
    let end = try #require(page.range(of: "</\(element)>"))
    return String(page[begin.upperBound..<end.lowerBound])
  }

  /// `sha256-…`, from the program of coreutils.
  private func hash(_ text: String) throws -> String {
    let folder = try Folder()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
    process.arguments = [try folder.file("text", text)]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let said = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    let digits = Array(said.prefix(64))
    let bytes = try stride(from: 0, to: digits.count, by: 2).map { index in
      try #require(UInt8(String(digits[index...(index + 1)]), radix: 16))
    }
    #expect(bytes.count == 32)
    return "sha256-\(Data(bytes).base64EncodedString())"
  }

  /// The hashes of `HTMLPage.policy`: after a change to the script or to the style sheet they are those that this says.
  @Test(arguments: ["script", "style"])
  func thePolicyAllowsThePagesOwn(element: String) throws {
    let hash = try hash(try content(of: element))
    let isAllowed = page.contains("&#39;\(hash)&#39;")
    #expect(isAllowed, "HTMLPage.policy: the \(element)'s is \(hash)")
  }

  @Test func thePolicyAllowsNothingElse() throws {
    let match = try #require(
      page.firstMatch(of: #/<meta http-equiv="Content-Security-Policy" content="([^"]*)">/#))
    let policy = match.output.1.replacing("&#39;", with: "'")
    #expect(policy.hasPrefix("default-src 'none'; script-src 'sha256-"))
    let directives = policy.split(separator: "; ").map { $0.split(separator: " ") }
    #expect(directives.first { $0[0] == "script-src" }?.count == 2)
    #expect(directives.first { $0[0] == "style-src-elem" }?.count == 2)
    // The policy holds for what comes after it.
    let start = try #require(page.range(of: "<meta http-equiv")).lowerBound
    let style = try #require(page.range(of: "<style>")).lowerBound
    #expect(start < style)
  }
}
