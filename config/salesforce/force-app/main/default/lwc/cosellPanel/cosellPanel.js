// The co-sell fields of an opportunity on its record page: what happened, what to answer, what to share.
// Only Salesforce's own record services, so there is no Apex to test and field-level security holds by itself.
// The fields are imported rather than named in the markup, so that Salesforce knows who uses them.
import { LightningElement, api, wire } from "lwc";
import { ShowToastEvent } from "lightning/platformShowToastEvent";
import { getFieldValue, getRecord } from "lightning/uiRecordApi";
import action from "@salesforce/schema/Opportunity.Cosell_Action__c";
import consent from "@salesforce/schema/Opportunity.Cosell_Consent__c";
import dealType from "@salesforce/schema/Opportunity.Cosell_Deal_Type__c";
import favorite from "@salesforce/schema/Opportunity.Cosell_Favorite__c";
import help from "@salesforce/schema/Opportunity.Cosell_Help__c";
import helpNote from "@salesforce/schema/Opportunity.Cosell_Help_Note__c";
import lastSync from "@salesforce/schema/Opportunity.Cosell_Last_Sync__c";
import location from "@salesforce/schema/Opportunity.Cosell_Location__c";
import marketplaceIntent from "@salesforce/schema/Opportunity.Cosell_Marketplace_Intent__c";
import message from "@salesforce/schema/Opportunity.Cosell_Message__c";
import microsoftId from "@salesforce/schema/Opportunity.Cosell_Microsoft_Id__c";
import microsoftStatus from "@salesforce/schema/Opportunity.Cosell_Microsoft_Status__c";
import notes from "@salesforce/schema/Opportunity.Cosell_Notes__c";
import partnerRole from "@salesforce/schema/Opportunity.Cosell_Partner_Role__c";
import reason from "@salesforce/schema/Opportunity.Cosell_Reason__c";
import reasonNote from "@salesforce/schema/Opportunity.Cosell_Reason_Note__c";
import referralId from "@salesforce/schema/Opportunity.Cosell_Referral_Id__c";
import referralLink from "@salesforce/schema/Opportunity.Cosell_Referral_Link__c";
import respondBy from "@salesforce/schema/Opportunity.Cosell_Respond_By__c";
import solutionArea from "@salesforce/schema/Opportunity.Cosell_Solution_Area__c";
import solutionPlay from "@salesforce/schema/Opportunity.Cosell_Solution_Play__c";
import status from "@salesforce/schema/Opportunity.Cosell_Status__c";
import sync from "@salesforce/schema/Opportunity.Cosell_Sync__c";
import syncState from "@salesforce/schema/Opportunity.Cosell_Sync_State__c";
import visible from "@salesforce/schema/Opportunity.Cosell_Visible_To_Microsoft__c";

export default class CosellPanel extends LightningElement {
    @api recordId;

    fields = {
        action,
        consent,
        dealType,
        favorite,
        help,
        helpNote,
        lastSync,
        location,
        marketplaceIntent,
        message,
        microsoftId,
        microsoftStatus,
        notes,
        partnerRole,
        reason,
        reasonNote,
        referralLink,
        respondBy,
        solutionArea,
        solutionPlay,
        status,
        sync,
        syncState,
        visible
    };

    // Optional: a viewer without the permission set sees an empty panel, not an error.
    @wire(getRecord, { recordId: "$recordId", optionalFields: [referralId, status] })
    opportunity;

    get linked() {
        return Boolean(getFieldValue(this.opportunity.data, referralId));
    }

    get unanswered() {
        return getFieldValue(this.opportunity.data, status) === "Received";
    }

    told() {
        this.dispatchEvent(new ShowToastEvent({ title: "Saved", message: "Partner Center hears of it within minutes.", variant: "success" }));
    }
}
