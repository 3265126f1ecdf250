/** The progress of a merchant's orders, under the names of an earlier front end. */

export { RealTimeFeedback, type RealTimeFeedbackProps } from "./components/RealTimeFeedback.js";
export * from "./hooks/useSSEUpdates.js";
